"""Settings of U-Nets and autoencoders: followed as diffusers does, or refused by name. Those of transformers: `test_dit`."""

import inspect
import logging

import pytest
import torch

from ld3m_plugin.generators.ld3m import model_settings
from ld3m_plugin.generators.ld3m.frozen_layers import shorten
from ld3m_plugin.generators.ld3m.ldm_describe import describe
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import Codec, load_autoencoder, load_prior
from ld3m_plugin.randomness import lent_to_global, stream

CLASSES = ("UNet2DModel", "UNet2DConditionModel", "AutoencoderKL", "VQModel", "DiTTransformer2DModel")

#: Part, setting and value; whether the prior is conditional and VQ.
REFUSED = [
    *(("unet", key, value, {}) for key, value in [
        ("a_setting_of_tomorrow", 1),
        ("a_setting_of_tomorrow", None),
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 10),
        ("encoder_hid_dim", 6),
        ("encoder_hid_dim_type", "text_proj"),
        ("addition_embed_type", "text"),
        ("class_embeddings_concat", True),
        ("time_cond_proj_dim", 8),
        ("dual_cross_attention", True),
        ("attention_type", "gated"),
        ("upsample_type", "resnet"),  # of UNet2DModel alone
    ]),
    *(("unet", key, value, {"conditional": False}) for key, value in [
        ("class_embed_type", "identity"),
        ("num_class_embeds", 10),
        ("cross_attention_dim", 6),
        ("clip_sample", False),
    ]),
    *(("vae", key, value, {}) for key, value in [
        ("a_setting_of_tomorrow", 1),
        ("shift_factor", "x"),
        ("shift_factor", 0.5),  # beside latents_mean
        ("shift_factor", [0.5, 0.5]),
        ("latents_std", [-1.0]),
        ("num_vq_embeddings", 8),
    ]),
    *(("vqvae", key, value, {"vq": True}) for key, value in [("a_setting_of_tomorrow", 1), ("use_quant_conv", True)]),
]  # fmt: skip


@pytest.mark.parametrize(("part", "key", "value", "what"), REFUSED, ids=str)
def test_a_setting_that_is_not_followed_is_named(copied, edit_json, refused, part, key, value, what):
    folder = copied(**what)
    edit_json(folder / part / "config.json", **{key: value})
    message = refused(folder)
    assert str(folder / part / "config.json") in message
    assert key in message


@pytest.mark.parametrize("name", CLASSES)
def test_every_setting_of_the_supported_classes_is_known(name):
    import diffusers

    known = {*model_settings._BUILT, *model_settings._HARMLESS, *model_settings._FOLLOWED.get(name, ())}
    own = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
    assert own <= known | set(model_settings._ONLY.get(name, ()))


def test_a_later_setting_is_read_at_its_default_alone(copied, edit_json, refused, monkeypatch):
    monkeypatch.setattr(model_settings, "_BUILT", model_settings._BUILT - {"center_input_sample"})
    folder = copied()
    load_prior(folder)
    edit_json(folder / "unet" / "config.json", center_input_sample=True)
    assert "center_input_sample = True" in refused(folder)


#: Settings without effect on float32 models that are not trained.
HARMLESS = [("unet", "dropout", 0.9), ("unet", "upcast_attention", True), ("vae", "force_upcast", False)]


@pytest.mark.parametrize(("part", "key", "value"), [*HARMLESS, ("vae", "sample_size", 512)], ids=str)
def test_a_harmless_setting_changes_nothing(copied, edit_json, part, key, value):
    folder = copied()
    before = load_prior(folder)
    edit_json(folder / part / "config.json", **{key: value})
    after = load_prior(folder)
    state, rows = torch.randn(2, 3, 4, 4, generator=stream(0, "state")), before.class_embedding[:2, None]
    torch.testing.assert_close(after.predict(state, 7, rows), before.predict(state, 7, rows), rtol=1e-6, atol=1e-6)
    assert torch.equal(after.codec.decode(state), before.codec.decode(state))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flip_sin_to_cos", False),
        ("freq_shift", 1),
        ("center_input_sample", True),
        ("norm_eps", 0.1),
        ("act_fn", "relu"),
        ("mid_block_scale_factor", 2.0),
        ("time_embedding_act_fn", "silu"),
        ("attention_head_dim", 4),
    ],
    ids=str,
)
def test_a_setting_of_the_unet_is_followed_as_diffusers_does(copied, edit_json, key, value):
    import diffusers

    folder = copied()
    before = load_prior(folder)
    edit_json(folder / "unet" / "config.json", **{key: value})
    after = load_prior(folder)
    own = diffusers.UNet2DConditionModel.from_config({**before.denoiser.config, key: value}).eval()
    own.load_state_dict(before.denoiser.state_dict())
    for model in (before.denoiser, after.denoiser, own):
        model.double()  # the order of sums differs
    state, rows = (
        torch.randn(2, 3, 4, 4, generator=stream(0, "state")).double(),
        before.class_embedding[:2, None].double(),
    )
    found = after.predict(state, 7, rows)
    torch.testing.assert_close(found, own(state, 7, rows).sample, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(found, before.predict(state, 7, rows), rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift_factor": 0.25, "scaling_factor": 0.5},  # as Stable Diffusion 3 has it
        {
            "latents_mean": [0.5, 1.0, -1.0],
            "latents_std": [2.0, 0.5, 3.0],
            "scaling_factor": 0.5,
        },  # Stable Diffusion XL
        {"shift_factor": 0.0, "latents_mean": [0.5, 1.0, -1.0]},
    ],
    ids=str,
)
def test_mean_and_scale_of_latents_are_followed(small_autoencoder, settings):
    model = small_autoencoder(**settings).eval()
    pictures = torch.rand(2, 1, 8, 8, generator=stream(0, "pictures")) * 2 - 1
    with torch.no_grad():
        found = Codec(model).encode(pictures)
        code = model.encode(pictures).latent_dist.mode()
        mean = torch.tensor(settings.get("latents_mean") or [settings["shift_factor"]]).view(1, -1, 1, 1)
        std = torch.tensor(settings.get("latents_std", [1.0])).view(1, -1, 1, 1)
        expected = (code - mean) / std * settings.get("scaling_factor", 0.18215)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(Codec(model).decode(found), model.decode(code).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"use_quant_conv": False}, {"use_post_quant_conv": False}, {"mid_block_add_attention": False}, {"act_fn": "relu"}],
    ids=str,
)
def test_a_setting_of_the_autoencoder_is_followed(copied, rewritten, small_autoencoder, settings):
    model = small_autoencoder(**settings).eval()
    codec = load_autoencoder(rewritten(copied(), autoencoder=model)).codec
    latents = torch.randn(1, 3, 4, 4, generator=stream(0, "latents"))
    shorten(model)  # as all that is loaded, so that bits are the same
    assert torch.equal(codec.decode(latents), Codec(model).decode(latents))


def test_fractional_times_reach_an_unconditional_unet(priors):
    prior = load_prior(priors(conditional=False))
    state = torch.randn(1, 3, 4, 4, generator=stream(0, "state"))
    own = prior.denoiser(state, torch.tensor(7.5)).sample
    assert torch.equal(prior.predict(state, 7.5, None), own)
    assert torch.equal(prior.predict(state, 7, None), prior.denoiser(state, 7).sample)
    assert not torch.equal(own, prior.predict(state, 7, None))


@pytest.mark.parametrize(
    ("known", "scheduler"), [(1000, {}), (999, {}), (1000, {"_class_name": "FlowMatchEulerDiscreteScheduler"})], ids=str
)
def test_learned_times_are_those_of_the_scheduler(copied, edit_json, refused, known, scheduler):
    import diffusers

    folder = copied(conditional=False)
    old = load_prior(folder)
    settings = {**old.denoiser.config, "time_embedding_type": "learned", "num_train_timesteps": known}
    with lent_to_global(stream(0, "unet")):
        unet = diffusers.UNet2DModel.from_config(settings)
    own = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    save_prior(folder, unet=unet, autoencoder=old.codec.model, scheduler=own, facts=PriorFacts())
    edit_json(folder / "scheduler" / "scheduler_config.json", **scheduler)
    if known == 1000 and not scheduler:
        state = torch.zeros(1, 3, 4, 4)
        assert load_prior(folder).predict(state, 999, None).isfinite().all()
    else:
        message = refused(folder)
        assert str(folder / "unet") in message
        assert str(known) in message


#: Class and settings of a scheduler, and what is shown.
SHOWN = [
    ("CogVideoXDDIMScheduler", {"snr_shift_scale": 3.0}, "snr_shift_scale 3.0"),
    ("CogVideoXDDIMScheduler", {}, "snr_shift_scale 3.0"),  # the default of this class
    (
        "CogVideoXDDIMScheduler",
        {"snr_shift_scale": 1.0},
        "scaled_linear 0.0015 to 0.0195, 1000 timesteps, predicts epsilon",
    ),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, "rescaled"),
    ("DDIMScheduler", {"trained_betas": [0.01, 0.02, 0.03]}, "betas of its own, 3 timesteps, predicts epsilon"),
    (
        "EulerDiscreteScheduler",
        {"timestep_type": "continuous", "prediction_type": "v_prediction"},
        "continuous timesteps",
    ),
    (
        "UniPCMultistepScheduler",
        {"use_flow_sigmas": True, "flow_shift": 2.5, "prediction_type": "flow_prediction"},
        "rectified flow, 1000 timesteps, shift 2.5",
    ),
]


@pytest.mark.parametrize(("name", "settings", "text"), SHOWN, ids=str)
def test_the_levels_that_are_used_are_described(copied, edit_json, name, settings, text):
    folder = copied()
    edit_json(folder / "scheduler" / "scheduler_config.json", _class_name=name, **settings)
    assert text in describe(folder)["schedule"]


def test_a_refusal_or_a_reading_logs_nothing(copied, edit_json, refused, caplog):
    folder = copied()
    with caplog.at_level(logging.WARNING):
        load_prior(folder)
        edit_json(folder / "unet" / "config.json", a_setting_of_tomorrow=1)
        refused(folder)
    assert not caplog.records


#: Part, setting and a value with which diffusers would build for hours, or take all memory.
ENORMOUS = [
    ("unet", "layers_per_block", 10**9),
    ("unet", "transformer_layers_per_block", [1, [10**9]]),
    ("unet", "block_out_channels", [8, 65536]),
    ("unet", "conv_in_kernel", 100_001),
    ("scheduler", "num_train_timesteps", 10**12),
    ("vae", "layers_per_block", 10**9),
    ("vae", "latent_channels", 10**7),
    ("vqvae", "num_vq_embeddings", 10**10),
    ("transformer", "num_layers", 10**9),
    ("transformer", "num_embeds_ada_norm", 10**8),
    ("transformer", "sample_size", 10**6),
]


@pytest.mark.parametrize(("part", "key", "value"), ENORMOUS, ids=str)
def test_a_model_that_is_larger_than_its_weights_is_not_built(copied, own_dit, edit_json, refused, part, key, value):
    folder = own_dit() if part == "transformer" else copied(vq=part == "vqvae")
    edit_json(folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"), **{key: value})
    assert str(folder / part) in refused(folder)


@pytest.mark.parametrize("value", [[], [1, 2, 3]])
def test_a_network_that_fails_in_its_first_use_is_refused_when_it_is_read(copied, edit_json, refused, value):
    folder = copied()
    edit_json(folder / "unet" / "config.json", downsample_padding=value)
    assert str(folder / "unet" / "config.json") in refused(folder)

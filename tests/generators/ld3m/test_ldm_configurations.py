"""Configurations of a prior's parts that cannot be, and parts that do not belong together."""

import inspect
import json
import re
import shutil

import pytest
import torch

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m import scheduler_settings
from ld3m_plugin.generators.ld3m.diffusers_parts import load_levels
from ld3m_plugin.generators.ld3m.ldm_prior import Codec, load_autoencoder, load_prior

WEIGHTS = "diffusion_pytorch_model.safetensors"
ROWS = "class_embedding.safetensors"
CODE_BOOK = "quantize.embedding.weight"
SCHEDULER = "scheduler/scheduler_config.json"

#: Part, setting and value; the message names the setting where it is checked before diffusers sees it.
CONFIGS = [
    ("unet", "_class_name", "Transformer2DModel"),
    ("unet", "_class_name", ["UNet2DModel"]),
    ("unet", "_class_name", ...),
    ("unet", "in_channels", -3),
    ("unet", "in_channels", "three"),
    ("unet", "in_channels", 2),
    ("unet", "out_channels", True),
    ("unet", "block_out_channels", [8, -16]),
    ("unet", "block_out_channels", "ab"),
    ("unet", "block_out_channels", []),
    ("unet", "norm_num_groups", 0),
    ("unet", "norm_num_groups", 3),
    ("unet", "cross_attention_dim", [6, 6]),
    ("unet", "sample_size", "large"),
    ("unet", "sample_size", [4, 0]),
    ("unet", "attention_head_dim", 0),
    ("unet", "act_fn", 3),
    ("unet", "down_block_types", ["Nothing", "Nowhere"]),
    ("vae", "_class_name", "AutoencoderTiny"),
    ("vae", "latent_channels", 4),
    ("vae", "latent_channels", None),
    ("vae", "block_out_channels", []),
    ("vae", "norm_num_groups", 0),
    ("vae", "scaling_factor", 0),
    ("vae", "scaling_factor", float("nan")),
    ("vae", "scaling_factor", "x"),
    ("vae", "latents_mean", [0.0, 1.0]),
    ("vae", "latents_mean", ["a", "b", "c"]),
    ("vae", "latents_std", [1.0, 1.0, 0.0]),
]


@pytest.mark.parametrize(("part", "key", "value"), CONFIGS, ids=str)
def test_a_nonsense_configuration_is_refused(copied, edit_json, refused, part, key, value):
    folder = copied()
    edit_json(folder / part / "config.json", **{key: value})
    assert str(folder / part) in refused(folder)


#: Settings that are named with their values: diffusers would fail elsewhere, or not at all.
NAMED = [
    ("unet", "_class_name", "Transformer2DModel"),
    ("unet", "in_channels", -3),
    ("unet", "in_channels", "three"),
    ("unet", "out_channels", True),
    ("unet", "norm_num_groups", 0),
    ("unet", "cross_attention_dim", [6, 6]),
    ("unet", "sample_size", "large"),
    ("unet", "sample_size", [4, 0]),
    ("vae", "_class_name", "AutoencoderTiny"),
    ("vae", "norm_num_groups", 0),
    ("vae", "scaling_factor", 0),
    ("vae", "scaling_factor", float("nan")),
    ("vae", "scaling_factor", "x"),
    ("vae", "latents_mean", [0.0, 1.0]),
    ("vae", "latents_std", [1.0, 1.0, 0.0]),
]


@pytest.mark.parametrize(("part", "key", "value"), NAMED, ids=str)
def test_a_setting_that_is_checked_is_named_with_its_value(copied, edit_json, refused, part, key, value):
    folder = copied()
    edit_json(folder / part / "config.json", **{key: value})
    message = refused(folder)
    assert str(folder / part / "config.json") in message
    assert repr(value) in message
    assert key in message or key == "_class_name"


@pytest.mark.parametrize(
    ("key", "value"), [("class_embed_type", "identity"), ("quantization_config", {"quant_method": "gguf"})]
)
def test_a_model_of_another_sort_is_refused(copied, edit_json, refused, key, value):
    folder = copied()
    edit_json(folder / "unet" / "config.json", **{key: value})
    assert str(folder / "unet") in refused(folder)


NO_BETAS = {"beta_start": ..., "beta_end": ..., "beta_schedule": ...}
SCHEDULERS = [
    {"_class_name": "Sampler"},
    {"_class_name": ["DDIMScheduler"]},
    {"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, **NO_BETAS},
    NO_BETAS,
    {"beta_start": "x"},
    {"beta_start": -1},
    {"beta_start": float("nan")},
    {"beta_start": 2, "beta_end": 2},
    {"beta_end": 1.0},
    {"rescale_betas_zero_snr": True},
    {"beta_schedule": "wavy"},
    {"num_train_timesteps": 0},
    {"num_train_timesteps": "x"},
    {"trained_betas": ["a"]},
    {"trained_betas": []},
    {"prediction_type": "score"},
    {"prediction_type": None},
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0.0},
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": "x"},
]


@pytest.mark.slow
@pytest.mark.parametrize("values", SCHEDULERS, ids=str)
def test_a_schedule_that_cannot_be_is_refused(copied, edit_json, refused, values):
    folder = copied()
    edit_json(folder / SCHEDULER, **values)
    assert str(folder / SCHEDULER) in refused(folder)


@pytest.mark.parametrize(
    "name", ["DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_other_schedulers_of_the_same_betas_give_the_same_levels(copied, priors, name):
    import diffusers

    folder = copied()
    original = load_prior(priors()).levels
    same = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
    getattr(diffusers, name)(**same).save_pretrained(folder / "scheduler")
    levels = load_prior(folder).levels
    assert torch.equal(levels.signal, original.signal)
    assert levels.prediction == "epsilon"


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
#: Class, settings beyond the betas.
FOLLOWED = [
    *(
        (name, {})
        for name in ("DDIM", "DDPM", "DPMSolverMultistep", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete")
    ),
    *((name, {}) for name in ("LCM", "TCD", "PNDM", "DEISMultistep", "CogVideoXDDIM", "CogVideoXDPM")),
    ("CogVideoXDDIM", {"snr_shift_scale": 1.0}),
    ("CogVideoXDPM", {"snr_shift_scale": 2.5}),
    ("CogVideoXDDIM", {"snr_shift_scale": 2.5, "rescale_betas_zero_snr": True}),
    ("DDPM", {"rescale_betas_zero_snr": True}),
    ("UniPCMultistep", {"rescale_betas_zero_snr": True}),
    ("DPMSolverMultistep", {"use_karras_sigmas": True}),
]


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize(("name", "values"), FOLLOWED, ids=str)
def test_levels_are_those_of_the_scheduler_itself(tmp_path, name, values):
    import diffusers

    known = getattr(diffusers, f"{name}Scheduler")
    own = known(**BETAS, **values, prediction_type="v_prediction")
    write_scheduler(tmp_path, known.__name__, **BETAS, **values, prediction_type="v_prediction")
    levels = load_levels(tmp_path)
    torch.testing.assert_close(levels.signal.square(), own.alphas_cumprod.double(), atol=2e-6, rtol=0)
    if hasattr(own, "final_alpha_cumprod"):
        assert levels.last[0] ** 2 == pytest.approx(float(own.final_alpha_cumprod), abs=2e-6)


def write_scheduler(folder, name, **values):
    (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": name, **values}))


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("name", ["UniPCMultistep", "DPMSolverMultistep"])
def test_flow_of_a_solver_is_followed(tmp_path, name):
    import diffusers

    values = {**BETAS, "use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    values["num_train_timesteps"] = 100
    own = getattr(diffusers, f"{name}Scheduler")(**values)
    own.set_timesteps(99)  # all levels of training but the first or the last
    write_scheduler(tmp_path, f"{name}Scheduler", **values)
    levels = load_levels(tmp_path)
    assert levels.prediction == "flow"
    distance, index = (levels.noise[:, None] - own.sigmas[:-1].double()).abs().min(0)
    assert distance.max() < 1e-5
    assert len(set(index.tolist())) == 99
    assert (levels.model_times[index] - own.timesteps).abs().max() < 1.001  # diffusers rounds them down


def test_continuous_timesteps_are_followed(tmp_path):
    import diffusers

    values = {**BETAS, "timestep_type": "continuous", "prediction_type": "v_prediction"}
    own = diffusers.EulerDiscreteScheduler(**values)
    write_scheduler(tmp_path, "EulerDiscreteScheduler", **values)
    torch.testing.assert_close(load_levels(tmp_path).model_times.flip(0).float(), own.timesteps, atol=1e-4, rtol=0)


def test_a_last_level_with_noise_is_followed(tmp_path):
    write_scheduler(tmp_path, "EulerDiscreteScheduler", **BETAS, final_sigmas_type="sigma_min")
    levels = load_levels(tmp_path)
    assert levels.last == (float(levels.signal[0]), float(levels.noise[0]))


#: Class, setting and value.
NOT_FOLLOWED = [
    ("DDIM", "snr_shift_scale", 3.0),
    ("CogVideoXDDIM", "snr_shift_scale", 0),
    ("CogVideoXDDIM", "snr_shift_scale", "x"),
    ("UniPCMultistep", "use_flow_sigmas", True),
    ("UniPCMultistep", "use_flow_sigmas", "yes"),
    ("DDIM", "use_flow_sigmas", True),
    ("DDIM", "timestep_type", "continuous"),
    ("EulerDiscrete", "timestep_type", "wavy"),
    ("EulerDiscrete", "final_sigmas_type", "half"),
    ("EulerDiscrete", "sigma_max", 700.0),
    ("PNDM", "rescale_betas_zero_snr", True),
    ("DDIM", "thresholding", True),
    ("DDIM", "shift", 2.0),
    ("DDPM", "predict_epsilon", False),
    ("DDIM", "a_setting_of_tomorrow", 1),
    ("FlowMatchEulerDiscrete", "use_beta_sigmas", True),
    ("FlowMatchEulerDiscrete", "use_dynamic_shifting", True),
    ("FlowMatchLCM", "scale_factors", [0.5, 1.0]),
]


@pytest.mark.parametrize(("name", "key", "value"), NOT_FOLLOWED, ids=str)
def test_a_setting_that_is_not_followed_is_named(tmp_path, name, key, value):
    write_scheduler(tmp_path, f"{name}Scheduler", **({} if name.startswith("Flow") else BETAS), **{key: value})
    with pytest.raises(PriorError) as error:
        load_levels(tmp_path)
    message = str(error.value)
    assert str(tmp_path / "scheduler_config.json") in message
    assert key in message
    assert "\n" not in message


def test_every_setting_of_the_supported_schedulers_is_known():
    import diffusers

    known = {*scheduler_settings._READ, *scheduler_settings._NEUTRAL, *scheduler_settings._HARMLESS}
    every = scheduler_settings.OF_BETAS + scheduler_settings.OF_FLOWS
    there = [name for name in every if hasattr(diffusers, f"{name}Scheduler")]  # older versions lack the newest
    assert {"DDIM", "DDPM", "FlowMatchEulerDiscrete"} <= set(there)
    for name in there:
        own = set(inspect.signature(getattr(diffusers, f"{name}Scheduler").__init__).parameters)
        assert own - {"self", "args", "kwargs"} <= known, name


@pytest.mark.parametrize("vq", [False, True], ids=["KL config, VQ weights", "VQ config, KL weights"])
def test_kl_and_vq_mixed_up(copied, priors, vq, refused):
    folder = copied(vq=vq)
    part, other = ("vqvae", "vae") if vq else ("vae", "vqvae")
    shutil.copy(priors(vq=not vq) / other / WEIGHTS, folder / part)
    for read in (load_prior, load_autoencoder):
        message = refused(folder, read)
        assert str(folder / part) in message
        assert CODE_BOOK in message


def test_the_index_and_the_configuration_name_one_class(copied, priors, edit_json, refused):
    folder = copied()
    shutil.rmtree(folder / "vae")
    shutil.copytree(priors(vq=True) / "vqvae", folder / "vae")
    message = refused(folder)
    assert all(word in message for word in (str(folder / "model_index.json"), "AutoencoderKL", "VQModel"))
    edit_json(folder / "model_index.json", vae=["diffusers", "VQModel"])
    assert load_prior(folder).codec.quantises  # the folder's name is no statement


def test_of_two_autoencoders_the_index_says_which(copied, priors, edit_json, refused):
    folder = copied()
    shutil.copytree(priors(vq=True) / "vqvae", folder / "vqvae")
    assert not load_prior(folder).codec.quantises
    edit_json(folder / "model_index.json", vqvae=["diffusers", "VQModel"])
    message = refused(folder)
    assert all(word in message for word in (str(folder / "model_index.json"), "vqvae", "vae"))


def test_a_unet_of_another_model_is_refused(copied, priors, edit_json, refused):
    folder = copied()
    shutil.rmtree(folder / "unet")
    shutil.copytree(priors(conditional=False) / "unet", folder / "unet")
    message = refused(folder)
    assert all(word in message for word in (str(folder / "model_index.json"), "UNet2DConditionModel", "UNet2DModel"))
    edit_json(folder / "model_index.json", unet=["diffusers", "UNet2DModel"])
    assert str(folder / ROWS) in refused(folder)


def test_channels_of_unet_and_autoencoder_must_agree(copied, refused, rewritten, small_autoencoder):
    folder = rewritten(copied(), autoencoder=small_autoencoder(latent_channels=4))
    assert re.search(r"\b3 channels\b.*\b4\b", refused(folder))


@pytest.mark.slow
def test_a_unet_that_predicts_more_than_noise_is_refused(copied, refused, rewritten):
    import diffusers

    folder = copied()
    config = {**load_prior(folder).denoiser.config, "out_channels": 6}
    rewritten(folder, unet=diffusers.UNet2DConditionModel.from_config(config))
    assert re.search(r"unet\b.*\b6\b.*\b3\b", refused(folder))


def test_an_autoencoder_gives_the_channels_it_takes(copied, refused, rewritten, small_autoencoder):
    folder = rewritten(copied(), autoencoder=small_autoencoder(out_channels=3))
    message = refused(folder, load_autoencoder)
    assert all(word in message for word in (str(folder / "vae"), "in_channels", "out_channels"))


def test_a_code_book_of_fewer_dimensions_sets_the_latent_channels(small_autoencoder):
    codec = Codec(small_autoencoder("VQModel", vq_embed_dim=2, num_vq_embeddings=8))
    latents = codec.encode(torch.zeros(1, 1, 8, 8))
    assert latents.shape == (1, codec.latent_channels, 4, 4) == (1, 2, 4, 4)
    assert codec.quantise(latents).shape == latents.shape

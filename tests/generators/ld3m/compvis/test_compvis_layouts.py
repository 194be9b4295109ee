"""Configurations beyond the golden ones: which tensors they need, and that the networks compute what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis import autoencoder_layout as autoencoder
from ld3m_plugin.generators.ld3m.compvis import unet_layout as unet
from ld3m_plugin.generators.ld3m.compvis.cin256 import CONFIG, is_cin256
from ld3m_plugin.generators.ld3m.compvis.compvis_config import AutoencoderParams, FirstStage, UNetParams, parse_config
from ld3m_plugin.generators.ld3m.compvis.compvis_convert import cin256_modules, convert_state
from ld3m_plugin.randomness import stream


def assert_every_tensor_has_one_source(module, entries):
    entries = list(entries)
    assert sorted(entry.new for entry in entries) == sorted(module.state_dict())
    assert len({(entry.old, entry.form) for entry in entries}) == len(entries)


@pytest.fixture
def built_in():
    """U-Net and first stage of the built-in layout, without storage: names and shapes are all that is asked."""
    with torch.device("meta"):
        return unet.build(CONFIG.unet), autoencoder.build(CONFIG.first_stage, 1.0)


def test_the_built_in_layout_has_the_published_size(built_in):
    network, stage = built_in
    assert sum(parameter.numel() for parameter in network.parameters()) == 400_920_579
    assert sum(parameter.numel() for parameter in stage.parameters()) == 55_322_782
    assert_every_tensor_has_one_source(network, unet.entries(CONFIG.unet, network.state_dict()))
    assert_every_tensor_has_one_source(stage, autoencoder.entries(CONFIG.first_stage, stage.state_dict()))


@pytest.mark.slow
def test_the_built_in_layout_is_recognised_and_needs_no_yaml(built_in):
    network, stage = built_in
    state = {"cond_stage_model.embedding.weight": torch.zeros(1001, 512)}
    for module, entries in ((network, unet.entries), (stage, autoencoder.entries)):
        config = CONFIG.unet if module is network else CONFIG.first_stage
        targets = module.state_dict()
        for entry in entries(config, targets):
            kernel = (1, 1) if entry.form == "linear" and entry.new.endswith("weight") else ()
            state[entry.old] = torch.zeros(1).expand(*targets[entry.new].shape, *kernel)
    assert is_cin256(state)
    assert convert_state(state, CONFIG).unet.config.attention_head_dim == (1, 1, 1, 1)
    del state["model.diffusion_model.out.2.bias"]
    assert is_cin256(state)
    with pytest.raises(PriorError, match=r"model\.diffusion_model\.out\.2\.bias"):
        convert_state(state, CONFIG)
    assert not is_cin256({})


@pytest.mark.slow
def test_the_full_layout_with_random_weights_predicts_noise():
    before = torch.get_rng_state()
    parts = cin256_modules(stream(0, "full layout"))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        out = parts.unet(torch.zeros(1, 3, 8, 8), 1, parts.class_embedding[None, 1000:]).sample
    assert out.shape == (1, 3, 8, 8)


@pytest.mark.slow
@settings(max_examples=20)
@given(
    transformer=st.booleans(),
    depth=st.integers(1, 3),
    blocks=st.integers(1, 3),
    mult=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    at=st.sets(st.sampled_from([1, 2, 4, 8])),
    heads=st.sampled_from([{"num_heads": 1}, {"num_head_channels": 32}, {"num_head_channels": 16}]),
)
def test_every_unet_tensor_has_one_source(transformer, depth, blocks, mult, at, heads):
    params = UNetParams(
        image_size=16,
        in_channels=3,
        out_channels=3,
        model_channels=32,
        num_res_blocks=blocks,
        channel_mult=(1, *mult),
        attention_resolutions=tuple(at),
        use_spatial_transformer=transformer,
        transformer_depth=depth,
        context_dim=8 if transformer else None,
        **heads,
    )
    with torch.device("meta"):
        network = unet.build(params)
    assert_every_tensor_has_one_source(network, unet.entries(params, network.state_dict()))
    attentions = [module for module in network.modules() if type(module).__name__ == "Attention"]
    for attention in attentions:
        width = attention.to_q.in_features
        assert attention.heads == (1 if "num_heads" in heads else width // heads["num_head_channels"])


@pytest.mark.slow
@settings(max_examples=20)
@given(
    quantised=st.booleans(),
    blocks=st.integers(1, 3),
    mult=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    at=st.sets(st.sampled_from([32, 16, 8, 4])),
)
def test_every_autoencoder_tensor_has_one_source(quantised, blocks, mult, at):
    stage = first_stage(quantised, blocks, mult, at)
    with torch.device("meta"):
        network = autoencoder.build(stage, 1.0)
    assert_every_tensor_has_one_source(network, autoencoder.entries(stage, network.state_dict()))


def first_stage(quantised, blocks, mult, at):
    params = AutoencoderParams(
        double_z=not quantised,
        z_channels=4,
        resolution=32,
        in_channels=3,
        out_ch=3,
        ch=32,
        ch_mult=tuple(mult),
        num_res_blocks=blocks,
        attn_resolutions=tuple(at),
    )
    return FirstStage(target="vqmodel" if quantised else "autoencoderkl", embed_dim=4, n_embed=16, ddconfig=params)


@pytest.mark.slow
@torch.no_grad()
def test_a_kl_first_stage_with_attention_inside_its_levels_agrees(original, tensors, second_form, relative_error):
    stage = first_stage(quantised=False, blocks=2, mult=[1, 2, 2], at={16})
    network = autoencoder.build(stage, 1.0)
    targets = network.state_dict()
    entries = list(autoencoder.entries(stage, targets))
    kernel = {entry.old: (1, 1) for entry in entries if entry.form == "linear" and entry.new.endswith("weight")}
    drawn = tensors({entry.old: (*targets[entry.new].shape, *kernel.get(entry.old, ())) for entry in entries})
    config, state = original("ldm_unconditional")
    state = {name: value for name, value in state.items() if not name.startswith("first_stage_model.")} | drawn
    parts = convert_state(
        {**state, "scale_factor": torch.tensor(0.18215)}, config.model_copy(update={"first_stage": stage})
    )
    assert parts.autoencoder.config.scaling_factor == pytest.approx(0.18215)
    images = torch.randn(2, 3, 32, 32, generator=stream(0, "images")).clamp(-1, 1)
    other = second_form(state)
    moments = other.encode(images)
    assert relative_error(parts.autoencoder.encode(images).latent_dist.parameters, moments) < 1e-5
    latents = moments[:, :4]
    assert relative_error(parts.autoencoder.decode(latents).sample, other.decode(latents)) < 1e-5


@torch.no_grad()
def test_the_newer_order_of_a_joint_projection_is_read(golden, original, description, relative_error):
    values, (_, state) = golden("ldm_unconditional"), original("ldm_unconditional")
    about = description("ldm_unconditional")["config"]
    about["params"]["unet_config"]["params"]["use_new_attention_order"] = True
    for name, value in state.items():
        if ".qkv." in name:  # (head, third, channel) -> (third, head, channel), in heads of 32 channels
            split = value.reshape(-1, 3, 32, *value.shape[1:])
            state[name] = split.transpose(0, 1).reshape(value.shape)
    noise = convert_state(state, parse_config(about, "-")).unet(values["unet.sample"], values["unet.timesteps"]).sample
    assert relative_error(noise, values["unet.eps"]) < 1e-5


def averages(state):
    """Moving averages of the U-Net by their stored names; here the weights themselves, so that the golden holds for them."""
    prefix = "model.diffusion_model."
    names = [name for name in state if name.startswith(prefix)]
    return {"model_ema." + name.removeprefix("model.").replace(".", ""): state[name].clone() for name in names}


@torch.no_grad()
def test_moving_averages_take_the_place_of_the_raw_weights(golden, original, relative_error):
    values, (config, state) = golden("ldm_unconditional"), original("ldm_unconditional")
    shadow = {**averages(state), "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
    raw = {name: value + 1 if name.startswith("model.") else value for name, value in state.items()}
    noise = convert_state({**raw, **shadow}, config).unet(values["unet.sample"], values["unet.timesteps"]).sample
    assert relative_error(noise, values["unet.eps"]) < 1e-5
    gone = "model_ema.diffusion_modelout2bias"
    shadow[gone] = torch.zeros(4)
    with pytest.raises(PriorError, match=rf"{gone} .*\(4,\).*\(3,\)"):
        convert_state({**raw, **shadow}, config)
    del shadow[gone]
    with pytest.raises(PriorError, match=gone):
        convert_state({**raw, **shadow}, config)


def test_weights_in_half_precision_become_float32(original):
    config, state = original("ldm_unconditional")
    halves = {name: value.half() if name.startswith(("model.", "first")) else value for name, value in state.items()}
    assert {value.dtype for value in convert_state(halves, config).unet.state_dict().values()} == {torch.float32}


def changed(about, path, value):
    *nodes, last = path.split(".")
    node = about["params"]
    for key in nodes:
        node = node[key]
    node[last] = value
    return about


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("unet_config.params.use_scale_shift_norm", True, "use_scale_shift_norm"),
        ("unet_config.params.num_heads", -1, "num_heads"),
        ("unet_config.params.num_head_channels", 0, "num_head_channels"),
        ("unet_config.params.num_heads", 3, r"\(3, 3\) heads"),
        ("unet_config.params.channel_mult", [2, 4], "channel_mult"),
        ("unet_config.params.channel_mult", [], "channel_mult"),
        ("unet_config.params.model_channels", 20, "model_channels.*20"),
        ("unet_config.params.model_channels", 32 * 10**12, "model_channels"),
        ("unet_config.params.num_res_blocks", 10**9, "num_res_blocks"),
        ("unet_config.params.two\nlines", 1, "two lines"),
        ("first_stage_config.params.ddconfig.ch_mult", [], "ch_mult"),
        ("first_stage_config.params.ddconfig.ch", 48, r"\bch\b.*48"),
        ("scale_factor", float("inf"), "scale_factor"),
        ("scale_factor", float("nan"), "scale_factor"),
        ("unet_config.params.novelty", 1, "novelty"),
        ("unet_config.params.context_dim", 8, "embed_dim 16 .*context_dim"),
        ("unet_config.params.use_spatial_transformer", False, "use_spatial_transformer"),
        ("unet_config.target", "os.system", "unet_config.target .*'system'"),
        ("first_stage_config.target", "ldm.models.autoencoder.IdentityFirstStage", "first_stage_config.target"),
        ("first_stage_config.params.ddconfig.tanh_out", True, "tanh_out"),
        ("first_stage_config.params.n_embed", None, "n_embed"),
        ("cond_stage_config.target", "ldm.modules.encoders.modules.BERTEmbedder", "cond_stage_config.target"),
        ("cond_stage_config", "__is_first_stage__", "cond_stage_config .*'__is_first_stage__'"),
        ("cond_stage_config", None, "cond_stage_config.target"),
        ("unet_config", 3, "unet_config.target"),
        ("first_stage_config.params", [], "first_stage_config.params.embed_dim"),
        ("conditioning_key", "concat", "conditioning_key .*'concat'"),
        ("conditioning_key", None, "conditioning_key .*'concat'"),
        ("beta_schedule", "sqrt", "beta_schedule"),
        ("timesteps", 0, "timesteps"),
    ],
)
def test_a_model_that_is_not_converted_is_refused_by_name(description, path, value, match):
    with pytest.raises(PriorError, match=match) as excinfo:
        parse_config(changed(description("ldm_class_conditional")["config"], path, value), "it.yaml")
    assert str(excinfo.value).startswith("it.yaml")
    assert "\n" not in str(excinfo.value)


def test_a_kl_first_stage_with_another_embed_dim_is_refused(description):
    about = description("ldm_unconditional")["config"]
    stage = about["params"]["first_stage_config"]
    stage["target"] = "ldm.models.autoencoder.AutoencoderKL"
    stage["params"]["ddconfig"] |= {"double_z": True, "z_channels": 4}
    with pytest.raises(PriorError, match=r"embed_dim .*\b3\b.* z_channels.* 4"):
        parse_config(about, "it.yaml")


def test_heads_of_several_widths_without_transformers_are_refused(description):
    about = description("ldm_unconditional")["config"]
    about["params"]["unet_config"]["params"] |= {"num_heads": 2, "num_head_channels": -1}
    with pytest.raises(PriorError, match=r"\b2 .*\[16, 32\]"):
        parse_config(about, "it.yaml")


def test_a_measured_scale_that_is_not_stored_is_missing(original, description):
    _, state = original("ldm_unconditional")
    about = changed(description("ldm_unconditional")["config"], "scale_by_std", True)
    with pytest.raises(PriorError, match="scale_factor"):
        convert_state(state, parse_config(about, "it.yaml"))


@pytest.mark.parametrize(("says", "is_"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_the_prediction_is_translated(original, description, says, is_):
    _, state = original("ldm_unconditional")
    about = changed(description("ldm_unconditional")["config"], "parameterization", says)
    assert convert_state(state, parse_config(about, "-")).scheduler.config.prediction_type == is_


@pytest.mark.slow
def test_the_names_of_schedules_mean_what_the_original_code_computes(original, description):
    _, state = original("ldm_unconditional")
    steps = torch.arange(1001, dtype=torch.float64) / 1000 + 0.008
    squared = torch.cos(steps / 1.008 * torch.pi / 2) ** 2
    cosine = (1 - squared[1:] / squared[:-1]).clamp(0, 0.999)
    straight = torch.linspace(0.0015, 0.0195, 1000, dtype=torch.float64)
    for name, betas in (("cosine", cosine), ("sqrt_linear", straight)):
        state["alphas_cumprod"] = (1 - betas).cumprod(0).float()
        about = changed(description("ldm_unconditional")["config"], "beta_schedule", name)
        convert_state(state, parse_config(about, "-"))
        with pytest.raises(PriorError, match="alphas_cumprod"):
            convert_state(state, parse_config(description("ldm_unconditional")["config"], "-"))

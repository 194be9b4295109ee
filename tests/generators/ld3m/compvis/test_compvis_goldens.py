"""Both layouts of the same weights compute the same: the published code's values are in the golden files."""

import diffusers
import pytest
import torch

from ld3m_plugin.generators.ld3m.compvis.compvis_convert import convert_state

STEMS = ("ldm_class_conditional", "ldm_unconditional")


@pytest.fixture(params=STEMS)
def pair(request, golden, original, description):
    """The golden values, the converted parts, and the description."""
    config, state = original(request.param)
    return golden(request.param), convert_state(state, config), description(request.param)


def given(parts, embedding):
    return {} if embedding is None else {"encoder_hidden_states": embedding}


def layer_outputs(parts, values):
    """Latents, quantised latents, decoded images and noise, by the names of the golden file."""
    embedding = values.get("unet.class_embedding")
    latents = values["encode.latents"]
    return {
        "encode.latents": parts.autoencoder.encode(values["encode.images"]).latents,
        "quantize.latents": parts.autoencoder.quantize(latents)[0],
        "decode.images": parts.autoencoder.decode(latents).sample,
        "unet.eps": parts.unet(values["unet.sample"], values["unet.timesteps"], **given(parts, embedding)).sample,
    }


@pytest.mark.slow
@torch.no_grad()
def test_encode_quantise_decode_and_one_unet_call_agree(pair, relative_error):
    values, parts, _ = pair
    for name, value in layer_outputs(parts, values).items():
        assert relative_error(value, values[name]) < 1e-5, name


def double(module):
    torch.nn.Module.to(module, torch.float64)  # diffusers' own warns about every conversion


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
@torch.no_grad()
def test_in_float64_they_agree_to_the_last_digits(exact, original, relative_error, stem):
    (inputs, published), parts = exact(stem), convert_state(*reversed(original(stem)))
    double(parts.unet)
    double(parts.autoencoder)
    for name, value in layer_outputs(parts, inputs).items():
        assert relative_error(value, published[name]) < 1e-13, name


def render(about, values, levels, predict, quantise, decode, null):
    """The published render, written from its description: residual on the predicted x0, guidance, DDIM without noise.

    Returns z0, images, and the gradients with respect to the latents and, if there is one, the class embedding.
    """
    steps, scale = about["ddim_timesteps"], about["guidance_scale"]
    latents, embedding = values["render.latents"].requires_grad_(), values.get("render.class_embedding")
    learned = [latents] if embedding is None else [latents, embedding.requires_grad_()]
    quantised = quantise(latents)
    x = levels[steps[-1]].sqrt() * latents + (1 - levels[steps[-1]]).sqrt() * values["render.noise"]
    for index in reversed(range(len(steps))):
        eps = predict(x, steps[index], embedding)
        if embedding is not None:
            unguided = predict(x, steps[index], null.expand_as(embedding))
            eps = unguided + scale * (eps - unguided)
        level, before, weight = levels[steps[index]], levels[steps[index - 1] if index else 0], index / (len(steps) - 1)
        x0 = (1 - weight) * (x - (1 - level).sqrt() * eps) / level.sqrt() + weight * quantised
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps
    images = ((decode(quantise(x)) + 1) / 2).clamp(0, 1)
    return x.detach(), images.detach(), *torch.autograd.grad(images, learned, values["render.image_grad"])


def render_converted(about, values, parts, levels):
    def predict(x, step, embedding):
        return parts.unet(x, step, **given(parts, embedding)).sample

    def decode(x):
        return parts.autoencoder.decode(x, force_not_quantize=True).sample

    def quantise(x):
        return parts.autoencoder.quantize(x)[0]

    null = None if parts.class_embedding is None else parts.class_embedding[-1].double()
    return render(about, values, levels, predict, quantise, decode, null)


RESULTS = ("z0", "images", "latents_grad", "class_embedding_grad")


@pytest.mark.parametrize("stem", [pytest.param(STEMS[0], marks=pytest.mark.slow), STEMS[1]])
def test_both_layouts_render_the_published_images_in_float64(
    exact, original, description, second_form, relative_error, stem
):
    (values, published), (config, state) = exact(stem), original(stem)
    parts = convert_state(state, config)
    double(parts.unet)
    double(parts.autoencoder)
    state = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    other = second_form(state, config.unet.num_head_channels if parts.class_embedding is None else None)
    null = None if parts.class_embedding is None else state["cond_stage_model.embedding.weight"][-1]
    levels = state["alphas_cumprod"]
    second = render(description(stem), values, levels, other.predict, other.quantise, other.decode, null)
    first = render_converted(description(stem), values, parts, levels)
    for name, one, two in zip(RESULTS, first, second, strict=False):
        assert relative_error(one, published[f"render.{name}"]) < 1e-11, name
        assert relative_error(two, published[f"render.{name}"]) < 1e-11, name


@pytest.mark.slow
@torch.no_grad()
def test_the_second_form_is_the_published_one(golden, original, second_form, relative_error):
    for stem, width in zip(STEMS, (None, 32), strict=True):
        values, (_, state) = golden(stem), original(stem)
        other = second_form(state, width)
        noise = other.predict(values["unet.sample"], values["unet.timesteps"], values.get("unet.class_embedding"))
        assert relative_error(noise, values["unet.eps"]) < 1e-5
        assert relative_error(other.encode(values["encode.images"]), values["encode.latents"]) < 1e-5
        assert relative_error(other.quantise(values["encode.latents"]), values["quantize.latents"]) < 1e-5
        assert relative_error(other.decode(values["quantize.latents"]), values["decode.images"]) < 1e-5


def test_the_scheduler_starts_where_the_published_sampler_starts(pair):
    _, parts, about = pair
    parts.scheduler.set_timesteps(about["steps"])
    assert parts.scheduler.timesteps.tolist() == about["ddim_timesteps"][::-1]


# diffusers issue 7240: what has no shape loads silently whatever it says. Each of these must move the golden.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "at_least"),
    [({"attention_head_dim": 8}, 0.1), ({"flip_sin_to_cos": False}, 0.05), ({"freq_shift": 1}, 0.05)],
)
@torch.no_grad()
def test_the_golden_catches_what_loads_without_a_complaint(golden, original, relative_error, wrong, at_least):
    values = golden("ldm_class_conditional")
    config, state = original("ldm_class_conditional")
    right = convert_state(state, config).unet
    assert right.config.attention_head_dim == (1, 1)
    other = diffusers.UNet2DConditionModel.from_config({**right.config, **wrong}).eval()
    other.load_state_dict(right.state_dict(), strict=True)
    out = other(values["unet.sample"], values["unet.timesteps"], values["unet.class_embedding"]).sample
    assert relative_error(out, values["unet.eps"]) > at_least


def test_what_diffusers_defaults_get_wrong_is_written(pair):
    _, parts, _ = pair
    assert parts.autoencoder.config.scaling_factor == 1.0
    config = parts.scheduler.config
    assert (config.beta_schedule, config.beta_start, config.beta_end) == ("scaled_linear", 0.0015, 0.0195)
    assert (config.clip_sample, config.set_alpha_to_one, config.prediction_type) == (False, False, "epsilon")
    assert parts.scheduler.final_alpha_cumprod == parts.scheduler.alphas_cumprod[0]
    for module in (parts.unet, parts.autoencoder):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())

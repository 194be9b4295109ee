"""From a checkpoint file to the published render and its gradients, through what a user runs: convert, load, render."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import Latents
from ld3m_plugin.distillation.rendering import render_with_pull_back
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis.compvis_convert import convert
from ld3m_plugin.testing import tiny_task

STEMS = ("ldm_class_conditional", "ldm_unconditional")
#: What the golden files call the gradients.
GRADIENTS = {"latent": "latents_grad", "class_embedding": "class_embedding_grad"}


@pytest.fixture
def converted(tmp_path, description, original):
    """`converted(stem)`: the prior folder of a golden checkpoint, through its file."""

    def make(stem):
        _, state = original(stem)
        checkpoint = tmp_path / "model.ckpt"
        torch.save({"state_dict": state, "global_step": 1}, checkpoint)
        config = tmp_path / "model.yaml"
        config.write_text(json.dumps({"model": description(stem)["config"]}))
        convert(checkpoint, tmp_path / "prior")
        return tmp_path / "prior"

    return make


def start(folder, golden_values, about, double=False):
    task = replace(tiny_task(channels=3, image_size=32, classes=2), mean=(0.0,) * 3, std=(1.0,) * 3)
    generator = get_generator(
        "ld3m",
        prior=str(folder),
        steps=about["steps"],
        guidance_scale=about["guidance_scale"],
        residual="x0",
        residual_quantized=True,
        clamp="hard",
        memory="graph",
        unmatched="class 0" if about["guidance_scale"] > 1 else "error",
    )
    generator.prepare(task)
    names = {"latent": "latents", "class_embedding": "class_embedding", "noise": "noise"}
    tensors = {n: golden_values[f"render.{g}"] for n, g in names.items() if f"render.{g}" in golden_values}
    latents = Latents(tensors, tuple(n for n in tensors if n != "noise"))
    if double:
        generator._prior.unet.double()
        generator._prior.codec.model.double()
        for name in ("_mean", "_std"):
            setattr(generator._prior.codec, name, getattr(generator._prior.codec, name).double())
        generator._null = None if generator._null is None else generator._null.double()
        latents = Latents({n: t.double() for n, t in tensors.items()}, latents.learned)
    return generator, latents


@pytest.mark.parametrize("stem", STEMS)
def test_the_generator_renders_the_golden_images_and_gradients(
    golden, converted, description, relative_error, rounding, stem
):
    values, about = golden(stem), description(stem)
    generator, latents = start(converted(stem), values, about)
    assert list(generator._chain.timesteps) == about["ddim_timesteps"]
    with torch.no_grad():
        found = {"z0": generator.denoise(latents)}
    rendering = render_with_pull_back(generator, latents)
    gradients = rendering.pull_back(values["render.image_grad"])
    found |= {"images": rendering.images.detach(), **{GRADIENTS[n]: gradient for n, gradient in gradients.items()}}
    assert set(found) == set(rounding[stem])
    for name, bound in rounding[stem].items():
        assert relative_error(found[name], values[f"render.{name}"]) < 3 * bound, name


@pytest.mark.parametrize("stem", STEMS)
def test_in_float64_only_the_rounding_of_the_golden_is_left(
    golden, converted, description, relative_error, rounding, stem, recwarn
):
    values, about = golden(stem), description(stem)
    generator, latents = start(converted(stem), values, about, double=True)
    leaves = latents.detach(requires_grad=True)
    end = generator.denoise(leaves)
    images = generator._pictures.images(generator._prior.codec.decode(end))
    learned = sorted(leaves.learned)
    gradients = torch.autograd.grad(images, [leaves[n] for n in learned], values["render.image_grad"].double())
    found = {"z0": end, "images": images}
    found |= {GRADIENTS[name]: gradient for name, gradient in zip(learned, gradients, strict=True)}
    for name, bound in rounding[stem].items():
        assert relative_error(found[name].detach(), values[f"render.{name}"]) < 1.1 * bound, name


def test_the_codec_is_that_of_the_golden(golden, converted, description, relative_error):
    values = golden("ldm_class_conditional")
    generator, _ = start(converted("ldm_class_conditional"), values, description("ldm_class_conditional"))
    codec = generator._prior.codec
    assert relative_error(codec.encode(values["encode.images"]), values["encode.latents"]) < 1e-5
    assert relative_error(codec.quantise(values["encode.latents"]), values["quantize.latents"]) < 1e-5
    assert relative_error(codec.decode(values["encode.latents"]), values["decode.images"]) < 1e-5


def test_half_of_the_file_is_refused(tmp_path, converted):
    folder = converted("ldm_unconditional")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_out.bias")
    save_file(tensors, path, {"format": "pt"})
    generator = get_generator("ld3m", prior=str(folder))
    with pytest.raises(PriorError, match=r"missing keys: conv_out\.bias"):
        generator.prepare(tiny_task(channels=3, image_size=32))

"""The option `init`: any initialiser starts any generator that can start from pictures, and old settings keep their bits."""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import Initialiser
from ld3m_plugin.errors import InvalidOptionError, PluginLoadError, UnknownOptionError
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.testing import check_generator, tiny_task

TASK, LABELS = tiny_task(channels=3, image_size=8), torch.tensor([0, 1, 1])


def pixels(**options):
    generator = get_generator("pixel", **options)
    generator.prepare(TASK)
    return generator, generator.initial_latents(TASK, LABELS, stream(0, "latents"))


def test_the_default_start_has_the_bits_of_before():
    generator, latents = pixels()
    assert torch.equal(latents["pixels"], TASK.real_images_of(LABELS, stream(0, "latents")))
    assert generator.render(latents) is latents["pixels"]
    assert (generator.start(), generator.provenance()) == ("real images", {})
    assert generator.options.model_dump() == {"init": "real"}  # the record of before


def test_noise_is_that_of_before():
    _, latents = pixels(init="noise")
    assert torch.equal(latents["pixels"], torch.randn(3, 3, 8, 8, generator=stream(0, "latents")))


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InvalidOptionError, match=r"generator 'pixel': init = 'medoid': did you mean 'medoids'"):
        get_generator("pixel", init="medoid")
    with pytest.raises(UnknownOptionError, match=r"no option 'steps'"):
        get_generator("pixel", init="mean", init_options={"steps": 1})
    with pytest.raises(InvalidOptionError, match=r"init_options.*noise"):
        get_generator("pixel", init="noise", init_options={"steps": 1})
    with pytest.raises(InvalidOptionError, match="init"):
        get_generator("pixel", init=["mean"])


@pytest.mark.parametrize("wrong", [lambda n: torch.zeros(n, 3, 8, 9), lambda n: torch.full((n, 3, 8, 8), torch.nan)])
def test_a_plugin_that_gives_other_images_is_named(wrong):
    class Wrong(Initialiser):
        def images(self, task, labels, rng):
            return wrong(len(labels))

    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    registry.add(Backend("initialiser", "wrong", Wrong, "", Owner("wrong", "a-plugin", "1.0")))
    from ld3m_plugin.registry import use_registry

    with use_registry(registry), pytest.raises(PluginLoadError, match=r"'wrong' of a-plugin 1\.0"):
        pixels(init="wrong")


@pytest.mark.parametrize("clamp", ["straight-through", "hard"])
def test_clamped_pixels_stay_in_the_range_of_pictures(clamp):
    generator, latents = pixels(clamp=clamp)
    beyond = torch.tensor([-0.5, 0.25, 1.5]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    normalised = ((beyond - 0.5) / 0.25).clone().requires_grad_()
    images = generator.render(latents.replace(pixels=normalised))
    torch.testing.assert_close(TASK.denormalise(images), beyond.clamp(0, 1))
    images.sum().backward()
    passed = torch.ones(3) if clamp == "straight-through" else torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(normalised.grad, passed.view(3, 1, 1, 1).expand(3, 3, 8, 8))


def test_clamped_pixels_keep_the_contract():
    check_generator(lambda: get_generator("pixel", clamp="straight-through"))

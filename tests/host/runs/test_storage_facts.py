"""Sizes in the metadata of a run, counted by hand."""

import pytest

from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.runs.provenance import metadata, storage
from ld3m_plugin.testing import tiny_task


def state(generator, task=None, **options):
    objective = {"name": "dm", "options": {"batch_real": 4, "network_settings": {"depth": 2, "width": 8}}}
    config = {"images_per_class": 2, "generator": {"name": generator, "options": options}, "objective": objective}
    return Distillation(config, task=task)


def stored(run):
    return storage(run.task, run.generator, run.latents)


def test_pixels_store_their_images():
    task = tiny_task(channels=3)  # 3 classes of 16x16
    facts = metadata(state("pixel", task))
    numbers = 2 * 3 * 16 * 16
    expected = {"numbers_per_class": numbers, "latent_bytes": 3 * numbers * 4, "fixed_bytes": 0, "prior_bytes": 0}
    assert facts["storage"] == expected
    assert facts["start"] == "real images"


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_diffusion_model_also_stores_fixed_noise(eta):
    run = state("ld3m", steps=3, eta=eta)
    facts, latents = stored(run), run.latents
    per_image = latents["latent"][0].numel() + latents["class_embedding"][0].numel()
    assert facts["numbers_per_class"] == 2 * per_image
    noise = latents["noise"].numel() * (1 if eta == 0 else 4)  # that of the start, and of three steps
    assert facts["fixed_bytes"] == 4 * noise
    assert facts["latent_bytes"] == 4 * (noise + 10 * 2 * per_image)
    control = stored(state("autoencoder"))
    assert facts["prior_bytes"] > control["prior_bytes"] > 1e6  # the U-Net is not in the autoencoder


@pytest.mark.slow
def test_each_generator_says_what_it_starts_from():
    assert state("pixel", tiny_task(), init="noise").generator.start() == "noise"
    assert state("ld3m", steps=2).generator.start() == "real images"
    assert state("glad").generator.start() == "prior"

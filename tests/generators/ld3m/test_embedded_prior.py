"""The prior that is shipped: small, of the right classes, and its samples are recognised."""

import json

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import SHIPPED, load_prior
from ld3m_plugin.generators.ld3m.prior_samples import draw_samples
from ld3m_plugin.priors.quality.judge import JudgeRecipe, train_judge
from ld3m_plugin.randomness import stream

FOLDER = SHIPPED["embedded"]


@pytest.fixture(scope="module")
def task():
    return load_task("fashion-mnist:embedded")


def test_it_takes_at_most_8_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= 8_000_000


def test_its_report_was_measured_on_the_weights_that_are_shipped():
    quality = json.loads((FOLDER / "quality.json").read_text())
    assert quality["prior_sha256"] == digest(FOLDER)
    assert (quality["data"], quality["train_images"], quality["test_images"]) == ("fashion-mnist", 60_000, 10_000)
    assert quality["overall"]["accuracy"] >= 85
    training = json.loads((FOLDER / "training.json").read_text())
    assert training["images"] == 60_000
    assert training["options"]["half"] is True


def test_it_knows_the_classes_of_fashion_mnist(task):
    assert tuple(known.name for known in load_prior(FOLDER).facts.classes) == task.class_names


@pytest.mark.slow
def test_reconstructions_are_close(task):
    generator = get_generator("autoencoder")
    generator.prepare(task)
    labels = torch.arange(10).repeat_interleave(5)
    latents = generator.initial_latents(task, labels, stream(0, "latents"))
    real = task.denormalise(task.real_images_of(labels, stream(0, "latents")))
    error = (task.denormalise(render(generator, latents)) - real).square().mean()
    assert -10 * float(error.log10()) > 23  # dB; quality.json has the number over the whole test set
    assert float(latents["latent"].std()) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_a_classifier_of_real_images_recognises_its_samples(task):
    # A rougher judge than the report's, on fewer samples: a broken file or a wrong row order would drop it to a tenth.
    judge = train_judge(task, stream(0, "judge"), JudgeRecipe(epochs=1, least_steps=250))
    labels = torch.arange(10).repeat_interleave(8)
    with torch.no_grad():
        samples = draw_samples(load_prior(FOLDER), task, labels, stream(0, "samples"), guidance_scale=2.0, steps=10)
        hits = (judge(samples).argmax(1) == labels).float().mean()
    assert float(hits) > 0.75

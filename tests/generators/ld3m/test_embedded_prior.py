"""The prior that is shipped: small, of the right classes, and its samples are recognised."""

import json

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.data.emoji_index import ALL, TASKS, categories
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import SHIPPED, find_prior, load_prior
from ld3m_plugin.generators.ld3m.prior_samples import draw_samples
from ld3m_plugin.priors.class_matching import rows_of_classes
from ld3m_plugin.priors.quality.judge import JudgeRecipe, train_judge
from ld3m_plugin.randomness import stream

FOLDER, EMOJI = SHIPPED["embedded"], SHIPPED["embedded-emoji"]


@pytest.fixture(scope="module")
def task():
    return load_task("fashion-mnist:embedded")


@pytest.fixture(scope="module")
def drawings():
    return load_task("emoji", task="all", split="equal-data")


@pytest.mark.parametrize("folder", [FOLDER, EMOJI], ids=["fashion-mnist", "emoji"])
def test_it_takes_at_most_8_megabytes(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 8_000_000


def test_the_prior_of_emoji_is_described_as_it_is_shipped(drawings):
    quality, training = (json.loads((EMOJI / name).read_text()) for name in ("quality.json", "training.json"))
    assert quality["prior_sha256"] == digest(EMOJI)
    counts = sum(drawings.train.counts()), sum(drawings.test.counts())
    assert (quality["data"], quality["train_images"], quality["test_images"]) == ("emoji", *counts)
    assert (training["images"], training["options"]["half"], training["options"]["mirror"]) == (counts[0], True, True)
    facts = load_prior(EMOJI).facts
    assert tuple(known.name for known in facts.classes) == drawings.class_names
    assert "CC-BY-4.0" in facts.licence
    # The part of the data that no validation or test drawing is in: see tests/data_sets/test_emoji.py.
    assert "4606 images of emoji (task all, split equal-data, 64 pixels)" in facts.source


@pytest.mark.parametrize("name", [name for name in TASKS if name != ALL])
def test_embedded_is_the_prior_of_emoji_for_its_tasks(name):
    data = load_task("emoji", task=name)
    assert find_prior("embedded", task=data) == EMOJI
    facts = load_prior(EMOJI).facts
    rows = rows_of_classes(data, facts, None, "error")
    assert [facts.classes[row].name for row in rows] == [
        own if own in categories() else broad for own, broad in zip(data.class_names, data.broader, strict=True)
    ]


@pytest.mark.slow
def test_a_distilled_emoji_set_starts_from_the_prior_of_emoji():
    data = load_task("emoji")
    generator = get_generator("ld3m", steps=2)
    generator.prepare(data.for_training())
    latents = generator.initial_latents(data.for_training(), torch.arange(10), stream(0, "latents"))
    assert generator.provenance()["prior_sha256"] == digest(EMOJI)
    assert latents["latent"].shape == (10, 8, 8, 8)  # eight channels, 64 pixels by a factor of eight
    assert render(generator, latents).shape == (10, 3, 64, 64)


def test_its_report_was_measured_on_the_weights_that_are_shipped():
    quality = json.loads((FOLDER / "quality.json").read_text())
    assert quality["prior_sha256"] == digest(FOLDER)
    assert (quality["data"], quality["train_images"], quality["test_images"]) == (
        "fashion-mnist:embedded",
        12_000,
        10_000,
    )
    assert quality["overall"]["accuracy"] >= 85
    training = json.loads((FOLDER / "training.json").read_text())
    assert training["images"] == 12_000
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

"""The judge and the quality report: samplers with known faults, and what is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import DataError, InvalidOptionError, PriorError, UnknownBackendError
from ld3m_plugin.evaluation.train_network import accuracy
from ld3m_plugin.priors.quality.frechet import fit_gaussian, frechet_distance
from ld3m_plugin.priors.quality.judge import JudgeRecipe, real_batches, train_judge
from ld3m_plugin.priors.quality.measure import Reconstruction, measure_quality, name_without_path, reconstruction_error
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, Registry, use_registry
from ld3m_plugin.testing import tiny_task

SHORT = JudgeRecipe(
    network_settings={"width": 4, "norm": "batchnorm"}, epochs=1, least_steps=80, batch_size=12, learning_rate=0.02
)
PER_CLASS = 20
TASK = tiny_task(train=24, test=24)


@pytest.fixture(scope="module")
def judge():
    return train_judge(TASK, stream(0, "judge"), SHORT)


def real(labels, rng, shift=0):
    """Distinct training images of one class."""
    (k,) = labels.unique().tolist()
    return TASK.real_images((k + shift) % TASK.num_classes, len(labels), rng)


def measured(judge, sample, **more):
    return measure_quality(judge, TASK, sample, PER_CLASS, stream(0, "quality"), **more)


@pytest.mark.slow
def test_a_judge_learns_is_frozen_and_repeats(judge):
    assert accuracy(judge, TASK) > 90
    assert not judge.training
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    before = torch.get_rng_state()
    again = train_judge(TASK, stream(0, "judge"), SHORT).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in judge.state_dict().items())
    other = train_judge(TASK, stream(1, "judge"), SHORT).state_dict()
    assert not torch.equal(other["classifier.weight"], again["classifier.weight"])


def test_a_judge_never_reads_the_test_set():
    losses = []
    recipe = SHORT.model_copy(update={"least_steps": 12})
    train_judge(TASK.for_training(), stream(0), recipe, on_epoch=lambda epoch, loss: losses.append((epoch, loss)))
    # 72 images in batches of 12 are 6 steps, so 12 steps are two passes.
    assert [epoch for epoch, _ in losses] == [1, 2]
    assert losses[1][1] < losses[0][1]


def test_dropout_of_a_judge_repeats():
    recipe = JudgeRecipe(
        network="ViT", network_settings={"dim": 16, "depth": 1, "heads": 2, "patch_size": 8}, least_steps=3
    )
    weights = []
    for _ in range(2):
        weights.append(train_judge(tiny_task(image_size=32), stream(0), recipe).state_dict())
        torch.rand(3)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_pass_shows_every_image_once_with_its_label_and_mixes_classes():
    task = tiny_task(train=11)
    batches = list(real_batches(task, 8, stream(0)))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.bincount().tolist() == [11, 11, 11]
    assert sum(len(labels.unique()) > 1 for _, labels in batches) >= 3
    for k in range(3):
        shown, there = images[labels == k], task.normalise(task.train.read(k, torch.arange(11)))
        equal = (shown[:, None] == there[None]).flatten(2).all(2)
        assert torch.equal(equal.sum(0), torch.ones(11, dtype=torch.long))


def test_a_judge_without_features_is_refused_before_training():
    class Blind(Network):
        def __init__(self, *, channels: int, image_size: int, num_classes: int) -> None:
            super().__init__()
            self.pixels = nn.Linear(channels * image_size**2, num_classes)

        def forward(self, images: Tensor) -> Tensor:
            return self.pixels(images.flatten(1))

    registry = Registry()
    registry.add(Backend("network", "Blind", Blind, "", Owner("networks", "a-distribution", "1.0")))
    with use_registry(registry), pytest.raises(InvalidOptionError, match="'Blind'"):
        train_judge(TASK, stream(0), JudgeRecipe(network="Blind"))


def test_an_unknown_judge():
    with pytest.raises(UnknownBackendError, match=r"'ConvNt'.*'ConvNet'"):
        train_judge(TASK, stream(0), JudgeRecipe(network="ConvNt"))


def test_real_images_are_as_good_as_real_images(judge):
    quality = measured(judge, real)
    assert quality.overall.accuracy == pytest.approx(quality.overall.real_accuracy, abs=5)
    assert quality.overall.real_accuracy == pytest.approx(accuracy(judge, TASK))
    assert quality.frechet == pytest.approx(quality.real_frechet, rel=0.5)
    assert (quality.samples, quality.test_images) == (3 * PER_CLASS, 3 * 24)
    for one in (*quality.classes, quality.overall):
        assert one.spread == pytest.approx(1, abs=0.25)
        assert one.pixel_spread == pytest.approx(1, abs=0.05)
        assert one.nearest == pytest.approx(1, abs=0.25)


def test_images_of_the_wrong_class(judge):
    quality = measured(judge, lambda labels, rng: real(labels, rng, shift=1))
    assert quality.overall.accuracy < 10
    assert quality.overall.real_accuracy > 90
    # Over all classes together the images are as real as before: only the accuracy tells.
    assert quality.frechet == pytest.approx(quality.real_frechet, rel=0.5)


def test_one_wrong_class_stands_out(judge):
    quality = measured(judge, lambda labels, rng: real(labels.clamp(min=1), rng))
    assert quality.classes[0].accuracy < 10
    assert min(one.accuracy for one in quality.classes[1:]) > 80
    assert quality.overall.accuracy == pytest.approx(sum(one.accuracy for one in quality.classes) / 3)


def test_a_collapsed_sampler_has_no_spread(judge):
    quality = measured(judge, lambda labels, rng: real(labels[:1], stream(3)).repeat(len(labels), 1, 1, 1))
    assert quality.overall.accuracy > 60
    for one in (*quality.classes, quality.overall):
        assert (one.spread, one.pixel_spread, one.nearest) == pytest.approx((0, 0, 0), abs=1e-4)
    assert quality.frechet > 2 * quality.real_frechet


def test_two_images_over_and_over_show_in_the_nearest_distance(judge):
    def two(labels, rng):
        return real(labels[:2], stream(3)).repeat(len(labels) // 2, 1, 1, 1)

    quality = measured(judge, two)
    assert quality.overall.pixel_spread > 0.6
    assert quality.overall.nearest == pytest.approx(0, abs=1e-4)


def test_noise_is_far_away(judge):
    quality = measured(judge, lambda labels, rng: torch.randn(len(labels), 1, 16, 16, generator=rng))
    assert quality.frechet > 3 * quality.real_frechet


def test_pixel_spread_by_hand():
    class Says(Network):
        def embed(self, images):
            return images.flatten(1)

        def forward(self, images):
            return torch.nn.functional.one_hot(torch.ones(len(images), dtype=torch.long), 3).float()

    def half(labels, rng):
        every = TASK.normalise(TASK.test.read(int(labels[0]), torch.arange(24)))
        return every.mean(0) + (every - every.mean(0)) / 2

    quality = measure_quality(Says(), TASK, half, 24, stream(0))
    # Features are pixels here, moved half the way to their mean: every distance is half as long.
    for one in (*quality.classes, quality.overall):
        assert (one.spread, one.pixel_spread, one.nearest) == pytest.approx((0.5, 0.5, 0.5), rel=1e-4)
    assert [one.accuracy for one in quality.classes] == [0, 100, 0]
    assert quality.overall.accuracy == pytest.approx(100 / 3)
    assert quality.features == 256


def test_the_reference_is_real_training_images(judge):
    # The distance between as many training images and the test images, computed here in one go.
    quality = measure_quality(judge, TASK, real, 24, stream(0))
    train, test = (
        [judge.embed(TASK.normalise(source.read(k, torch.arange(24)))) for k in range(3)]
        for source in (TASK.train, TASK.test)
    )
    assert quality.real_frechet == pytest.approx(frechet_distance(*fit_gaussian(train), *fit_gaussian(test)), rel=1e-3)
    # All 24 of 24 were sampled, so that the samples are the reference.
    assert quality.frechet == pytest.approx(quality.real_frechet, rel=1e-3)


def test_samples_are_asked_for_in_batches_and_repeat(judge):
    asked = []

    def remembers(labels, rng):
        asked.append(labels.tolist())
        assert not torch.is_grad_enabled()
        return real(labels, rng)

    first = measured(judge, remembers, sample_batch=8)
    assert asked == [[k] * n for k in range(3) for n in (8, 8, 4)]
    assert measured(judge, real, sample_batch=8) == first


def test_alike_real_images_give_no_ratio(judge):
    class Alike(type(TASK.test)):
        def read(self, class_index, which):
            return super().read(class_index, torch.zeros_like(which))

    task = replace(TASK, test_images=Alike(3, 24, 1, 16, seed=1))
    quality = measure_quality(judge, task, real, PER_CLASS, stream(0))
    assert (quality.overall.spread, quality.overall.pixel_spread, quality.overall.nearest) == (None, None, None)
    assert quality.to_markdown().count(" - |") == 4 * 3


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda labels, rng: torch.full((len(labels), 1, 16, 16), math.nan), ""),
        (lambda labels, rng: torch.zeros(len(labels), 3, 16, 16), r"\(20, 3, 16, 16\) .*\(20, 1, 16, 16\)"),
        (lambda labels, rng: torch.zeros(len(labels) + 1, 1, 16, 16), r"\(21, 1, 16, 16\)"),
    ],
)
def test_samples_that_are_no_images(judge, broken, message):
    with pytest.raises(PriorError, match=f"samples of class 'class 0' .*{message}"):
        measured(judge, broken)


@pytest.mark.parametrize(
    ("task", "per_class", "error", "message"),
    [
        (TASK, 1, InvalidOptionError, "per_class = 1"),
        (TASK, 25, DataError, "class 'class 0' has 24 training images .* 25"),
        (tiny_task(test=1), 2, DataError, "class 'class 0' has 1 test images .* 2"),
        (TASK.for_training(), 2, DataError, "out of reach"),
    ],
)
def test_refused_before_anything_is_sampled(judge, task, per_class, error, message):
    with pytest.raises(error, match=message):
        measure_quality(judge, task, lambda labels, rng: pytest.fail("sampled"), per_class, stream(0))


def test_reconstruction_error_by_hand():
    # 0.1 of the range of pixels everywhere: mean squared error 0.01, 20 dB. Normalised images have a quarter of the range.
    error = reconstruction_error(TASK, lambda images: images + 0.1 / 0.25)
    assert (error.mse, error.psnr, error.images) == (pytest.approx(0.01), pytest.approx(20, abs=1e-4), 72)
    assert error.record() == {"mse": error.mse, "images": 72, "psnr_db": error.psnr}
    assert reconstruction_error(TASK, lambda images: images) == Reconstruction(0.0, 72)
    assert Reconstruction(0.0, 72).psnr is None


@pytest.mark.parametrize(("per_class", "indices"), [(3, [0, 8, 16]), (5, [0, 4, 9, 14, 19]), (99, list(range(24)))])
def test_reconstructed_images_are_evenly_spaced_in_every_class(per_class, indices):
    shown = []
    error = reconstruction_error(TASK, lambda images: shown.append(images) or images, per_class, batch_size=4)
    assert max(map(len, shown)) <= 4
    expected = torch.cat([TASK.normalise(TASK.test.read(k, torch.tensor(indices))) for k in range(3)])
    assert torch.equal(torch.cat(shown), expected)
    assert error.images == len(expected)


def test_reconstructions_that_are_no_images():
    with pytest.raises(PriorError, match="reconstructions"):
        reconstruction_error(TASK, lambda images: images / 0)
    with pytest.raises(InvalidOptionError, match="per_class = 0"):
        reconstruction_error(TASK, lambda images: images, 0)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("imagefolder:/home/me/birds/", "imagefolder:birds"),
        ("imagefolder:../birds", "imagefolder:birds"),
        ("imagenet:woof", "imagenet:woof"),
        ("cifar10", "cifar10"),
    ],
)
def test_a_report_names_the_data_without_its_folder(name, shared):
    assert name_without_path(name) == shared


def test_the_record_is_json_and_the_table_aligned(judge, tmp_path):
    quality = measured(judge, real, reconstruction=Reconstruction(0.0025, 72))
    quality.write(tmp_path / "report.json", judge=SHORT.model_dump())
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["frechet"] == quality.frechet
    assert (record["data"], record["train_images"], record["test_images"]) == ("tiny", 72, 72)
    assert record["classes"][2]["name"] == "class 2"
    assert record["reconstruction"] == {"mse": 0.0025, "images": 72, "psnr_db": pytest.approx(26.0206)}
    assert record["judge"]["least_steps"] == 80
    text = quality.to_markdown()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 + 1
    assert len({len(line) for line in table}) == 1
    assert f"{quality.frechet:.2f} for 60 samples" in text
    assert "PSNR 26.02 dB" in text

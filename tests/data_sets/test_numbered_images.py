"""Images numbered through all classes: against a list of pairs, and the batches that are read by such numbers."""

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ld3m_plugin.data.identity import data_digest
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.numbered_images import NumberedImages, evenly_spaced
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.objectives.mtt.store import training_images
from ld3m_plugin.priors.quality.judge import real_batches
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

COUNTS = (7, 0, 4, 13)


class Recorded(InMemoryImages):
    """Remembers which classes are read."""

    def __init__(self, images):
        super().__init__(images, "random images")
        self.asked = []

    def read(self, class_index, which):
        self.asked.append(class_index)
        return super().read(class_index, which)


@pytest.fixture
def task():
    rng = torch.Generator().manual_seed(3)
    images = [torch.randint(0, 256, (count, 3, 8, 8), generator=rng, dtype=torch.uint8) for count in COUNTS]
    return replace(tiny_task(classes=4, channels=3, image_size=8), train=Recorded(images))


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled", "repeated", "one"])
def test_numbers_count_through_the_classes(task, order):
    pairs = [(k, i) for k, count in enumerate(COUNTS) for i in range(count)]
    every = torch.arange(len(pairs))
    numbers = {
        "forwards": every,
        "backwards": every.flip(0),
        "shuffled": torch.randperm(len(pairs), generator=stream(0)),
        "repeated": torch.tensor([23, 0, 23, 7, 7]),
        "one": torch.tensor([10]),
    }[order]
    numbered = NumberedImages(task.train)
    images, labels = numbered.read(numbers)
    classes = sorted(set(task.train.asked))
    assert sorted(task.train.asked) == classes  # one read a class
    chosen = [pairs[number] for number in numbers.tolist()]
    assert labels.tolist() == numbered.labels(numbers).tolist() == [k for k, _ in chosen]
    assert torch.equal(images, torch.cat([task.train.read(k, torch.tensor([i])) for k, i in chosen]))
    assert (len(numbered), images.dtype) == (24, torch.uint8)


def test_no_numbers_give_no_images(task):
    images, labels = NumberedImages(task.train).read(torch.arange(0))
    assert (len(images), len(labels), task.train.asked) == (0, 0, [])


def digest(pairs, pixels):
    """SHA-256 of batches as bytes: what floating-point arithmetic rounds in the last bit is rounded away."""
    total = hashlib.sha256()
    for images, labels in pairs:
        total.update(pixels(images).round().to(torch.uint8).numpy().tobytes() + labels.numpy().tobytes())
    return total.hexdigest()[:16]


# The digests were made by the readers that each of these had of its own in version 0.1.


def test_batches_of_a_judge_are_known(task):
    assert digest(real_batches(task, 5, stream(0)), lambda images: 255 * task.denormalise(images)) == "f81b986716d32ff8"


@pytest.mark.parametrize("kept", [2**30, 0])
def test_batches_of_experts_are_known(task, kept, monkeypatch):
    monkeypatch.setattr(training_images, "KEEP_BYTES", kept)
    batches = training_images.TrainingImages(task).batches(5, stream(2))
    assert digest(batches, lambda images: 255 * task.denormalise(images)) == "e12b55fc7b3c5cde"


def test_batches_of_prior_training_are_known(task):
    batches, rng = RealBatches(task, 9), stream(1)
    assert digest((batches.draw(rng) for _ in range(3)), lambda pictures: 127.5 * (pictures + 1)) == "b395b62aa8b4f157"
    everything = list(batches.everything())
    assert digest(everything, lambda pictures: 127.5 * (pictures + 1)) == "9582525ac9f7b6e0"
    assert [labels.unique().tolist() for _, labels in everything] == [[0], [2], [3]]  # no batch spans classes


def test_statistics_and_identity_are_known(task):
    mean, std = channel_statistics(task.train, 5)
    assert mean == pytest.approx((0.47551470588235295, 0.4818504901960785, 0.5124877450980392), abs=1e-15)
    assert std == pytest.approx((0.2961961676294571, 0.286315279368858, 0.28483244785381123), abs=1e-15)
    assert data_digest(task) == "2d3fd062e469ad5076d70d5e73378acb6f2f2577fde7091563a189fb47908251"


def test_statistics_do_not_depend_on_how_many_images_are_read_at_once(task):
    few = task.train.read(3, torch.arange(13))
    many = InMemoryImages([few.repeat(50, 1, 1, 1)], "650 images")
    for once, repeated in zip(channel_statistics(InMemoryImages([few], "13")), channel_statistics(many), strict=True):
        assert once == pytest.approx(repeated, abs=1e-12)


@given(st.integers(0, 500), st.integers(1, 600))
def test_chosen_numbers_are_distinct_and_evenly_spaced(count, wanted):
    chosen = evenly_spaced(count, wanted)
    assert len(chosen) == min(count, wanted)
    gaps = chosen.diff()
    assert count == 0 or (int(chosen[0]), int(chosen[-1]) < count) == (0, True)
    # No two gaps differ by more than one, the one behind the last image as well.
    all_gaps = [*gaps.tolist(), count - int(chosen[-1])] if count else [1]
    assert min(all_gaps) >= 1
    assert max(all_gaps) - min(all_gaps) <= 1

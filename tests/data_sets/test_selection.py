"""Choosing settings on held-out training images: the test set is never read."""

from dataclasses import replace

import pytest
import torch

from ld3m_plugin.data.data_settings import absolute_data
from ld3m_plugin.data.load import load_task
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.selection import for_selection
from ld3m_plugin.data.task_checks import checked_task
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import ImagesByClass, Task
from ld3m_plugin.testing import tiny_task


class OutOfReach(ImagesByClass):
    origin = "out of reach"

    def counts(self):
        raise AssertionError("the test set was read")

    def read(self, class_index, which):
        raise AssertionError("the test set was read")


def numbered(counts, **facts):
    """A task whose images carry their number within the class, and whose test set cannot be read."""
    images = [torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4) for n in counts]
    task = tiny_task(classes=len(counts), image_size=4)
    return replace(task, train=InMemoryImages(images, "numbers"), test_images=OutOfReach(), **facts)


def numbers(images, k):
    return images.read(k, torch.arange(images.counts()[k]))[:, 0, 0, 0].tolist()


def test_a_fifth_of_each_class_is_held_out_and_nothing_is_on_both_sides():
    task = for_selection(numbered((10, 5, 2)))
    assert (task.train.counts(), task.test.counts()) == ((8, 4, 1), (2, 1, 1))
    for k, count in enumerate((10, 5, 2)):
        assert sorted(numbers(task.train, k) + numbers(task.test, k)) == list(range(count))
    again = for_selection(numbered((10, 5, 2)))
    assert [numbers(again.test, k) for k in range(3)] == [numbers(task.test, k) for k in range(3)]


def test_a_data_set_says_which_images_are_held_out():
    task = for_selection(numbered((4, 3), held_out=((3, 1), (0,)), held_out_groups=(5, 5, 6)))
    assert [numbers(task.test, k) for k in range(2)] == [[3, 1], [0]]
    assert [numbers(task.train, k) for k in range(2)] == [[0, 2], [1, 2]]
    assert (task.test_groups, task.held_out) == ((5, 5, 6), None)
    assert "3 training images" in task.source


def test_reading_in_any_order():
    task = for_selection(numbered((4, 4), held_out=((0,), (2,))))
    assert task.train.read(1, torch.tensor([2, 0, 0]))[:, 0, 0, 0].tolist() == [3, 0, 0]
    assert task.train.read_to(1, torch.tensor([1]), torch.device("cpu"))[:, 0, 0, 0].tolist() == [1]


@pytest.mark.parametrize(
    ("counts", "facts"), [((4, 1), {}), ((2, 2), {"held_out": ((0, 1), (0,))}), ((2, 2), {"held_out": ((), (0,))})]
)
def test_a_class_without_images_for_both_sides_is_refused(counts, facts):
    with pytest.raises(DataError, match="select_on=validation needs at least one"):
        for_selection(numbered(counts, **facts))


def test_every_data_set_has_the_option():
    task = load_task("fashion-mnist:embedded", select_on="validation")
    assert set(task.train.counts()) == {960}
    assert set(task.test.counts()) == {240}
    assert task.read_with["select_on"] == "validation"
    with pytest.raises(InvalidOptionError, match="select_on"):
        load_task("fashion-mnist:embedded", select_on="train")


def test_held_out_emoji_are_those_that_no_prior_was_trained_on():
    chosen, named = (load_task("emoji", size=32, **{key: "validation"}) for key in ("select_on", "split"))
    assert chosen.test_groups == named.test_groups
    for k, count in enumerate(named.test.counts()):
        every = torch.arange(count)
        assert torch.equal(chosen.test.read(k, every), named.test.read(k, every))
        assert chosen.train.digest(k) == named.train.digest(k)


@pytest.mark.parametrize("split", ["equal-data", "validation"])
def test_without_validation_drawings_no_other_drawing_takes_their_place(split):
    # Each drawing is there in several styles: a random share of the pictures would be tested on what is trained on.
    with pytest.raises(DataError, match=f"split {split}.*choose another split"):
        load_task("emoji", size=32, split=split, select_on="validation")


def test_records_name_it_only_where_it_decides_something():
    assert "select_on" not in absolute_data("emoji", {"select_on": "test"})["options"]
    assert absolute_data("emoji", {"select_on": "validation"})["options"]["select_on"] == "validation"


def test_normalised_images_stay_normalised():
    images, labels = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    task = for_selection(checked_task("emoji", Task.from_tensors(images, labels, 0.5, 0.25, test=(images, labels))))
    first = task.train.read(0, torch.arange(1))
    assert torch.equal(task.normalise(first), first)
    assert any(torch.equal(first[0], image) for image in images)

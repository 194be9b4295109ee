"""Digests of a data set's images: what they tell apart, and what they do not depend on."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from ld3m_plugin.data.decode import Form
from ld3m_plugin.data.files import open_files
from ld3m_plugin.data.identity import data_difference, data_facts, images_digest, same_digest, task_digest
from ld3m_plugin.data.memory import InMemoryImages, ReshapedImages
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass
from ld3m_plugin.testing import tiny_task


def images(*classes):
    return InMemoryImages([torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1) for values in classes], "x")


def task(train, names=("cat", "dog"), test=None):
    made = tiny_task(class_names=names, image_size=4)
    return replace(made, train=train, test_images=test or images([9], [9]))


def test_a_digest_is_of_all_pixels_by_class_and_in_order():
    base = images_digest(images([1, 2], [3]))
    assert base == images_digest(images([1, 2], [3]))
    for other in (images([1, 2], [4]), images([2, 1], [3]), images([1], [2, 3]), images([3], [1, 2])):
        assert images_digest(other) != base


class Third(ImagesByClass):
    """Images of a third party: `read` alone."""

    origin = "third"

    def __init__(self, count):
        self.pixels = torch.arange(count, dtype=torch.int64).remainder(251).to(torch.uint8).view(-1, 1, 1, 1)

    def counts(self):
        return (len(self.pixels),)

    def read(self, class_index, which):
        return self.pixels[which]


def test_images_of_a_third_party_have_the_digest_of_their_pixels():
    third = Third(700)
    assert images_digest(third) == images_digest(InMemoryImages([third.pixels], "x"))


def test_of_a_large_class_that_is_read_on_use_a_sample_counts():
    one, other = Third(5000), Third(5000)
    assert images_digest(one).startswith("sample:")
    other.pixels[1] += 1  # between two images of the sample
    assert images_digest(one) == images_digest(other)
    third = Third(5000)
    third.pixels[0] += 1
    assert images_digest(one) != images_digest(third)


def test_what_is_made_on_use_has_the_digest_of_its_source():
    source = InMemoryImages([torch.zeros(2, 1, 4, 4, dtype=torch.uint8)], "x")
    digests = {images_digest(ReshapedImages(source, channels, size)) for channels, size in ((1, 8), (3, 8), (1, 6))}
    assert len(digests) == 3
    assert all(digest.startswith("reshaped:") for digest in digests)


def test_files_that_are_decoded_on_use_are_known_by_their_content(tmp_path):
    def digest(folder):
        return images_digest(open_files({"a": sorted(folder.iterdir())}, Form(4, 1), folder, budget=0))

    (tmp_path / "a").mkdir()
    for number in range(3):
        Image.new("L", (4, 4), number).save(tmp_path / "a" / f"{number}.png")
    first = digest(tmp_path / "a")
    assert first.startswith("files:")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / "2.png").rename(tmp_path / "b" / "3.png")
    assert digest(tmp_path / "b") == first
    Image.new("L", (4, 4), 7).save(tmp_path / "b" / "1.png")
    assert digest(tmp_path / "b") != first


def test_a_file_that_is_gone_is_named(tmp_path):
    path = tmp_path / "0.png"
    Image.new("L", (4, 4)).save(path)
    opened = open_files({"a": [path]}, Form(4, 1), tmp_path, budget=0)
    path.unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        images_digest(opened)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (task(images([1, 2], [3])), None),
        (task(images([1, 2], [3]), ("Cat", "DOG")), None),
        (task(images([1, 2], [3]), ("cat", "cow")), "other classes"),
        (task(images([3], [1, 2]), ("dog", "cat")), "another order"),
        (task(images([3], [1, 2])), "exchanged"),
        (task(images([1, 2, 4], [3])), "another number of training"),
        (task(images([1, 5], [3])), "other training images"),
        (task(images([1, 2], [3]), test=images([9], [9, 9])), "another number of test"),
        (task(images([1, 2], [3]), test=images([9], [8])), "other test images"),
    ],
)
def test_the_first_difference_is_said(now, said):
    found = data_difference(data_facts(task(images([1, 2], [3]))), now)
    assert found is None if said is None else said in found


@pytest.mark.parametrize("record", [None, [], {}, {"images": 3}, {"images": {"classes": [[], {}], "train": 5}}])
def test_what_was_not_recorded_is_taken_to_be_the_same(record):
    assert data_difference(record, task(images([1, 2], [3]))) is None


def test_digests_of_two_methods_are_not_compared():
    assert same_digest("files:1", "pixels:2")
    assert same_digest("", "pixels:2")
    assert same_digest(None, "pixels:2")
    assert not same_digest("pixels:1", "pixels:2")


def test_the_digest_of_a_task_is_of_names_and_both_splits():
    base = task(images([1, 2], [3]))
    assert task_digest(base) == task_digest(replace(base, name="other", source="elsewhere"))
    others = [
        task(images([1, 2], [3]), ("cat", "cow")),
        task(images([1, 2], [4])),
        task(images([1, 2], [3]), test=images([1], [1])),
    ]
    assert len({task_digest(other) for other in (base, *others)}) == 4

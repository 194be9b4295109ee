"""Splits of image files, in memory and on disk."""

import pytest
import torch
from PIL import Image

from ld3m_plugin.data import files
from ld3m_plugin.data.decode import Form, UnreadableImageError
from ld3m_plugin.data.files import ImageFiles, open_files, readable
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.picture_listing import LeftOut, list_images
from ld3m_plugin.errors import DataError

FORM = Form(4, 1)


@pytest.fixture
def classes(tmp_path):
    """Class a: grey 0, 1, 2; class b: grey 10, 11."""
    found = {}
    for name, levels in {"a": (0, 1, 2), "b": (10, 11)}.items():
        (tmp_path / name).mkdir()
        for level in levels:
            Image.new("L", (4, 4), level).save(tmp_path / name / f"{level:02}.png")
        found[name] = list_images(tmp_path / name)
    return found


def levels(images, class_index, which):
    return images.read(class_index, torch.tensor(which, dtype=torch.long))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("budget", "kind"), [(10_000, InMemoryImages), (5 * 16, InMemoryImages), (79, ImageFiles), (0, ImageFiles)]
)
def test_both_ways_give_the_same_images(classes, tmp_path, budget, kind):
    images = open_files(classes, FORM, tmp_path, budget=budget)
    assert isinstance(images, kind)
    assert (images.counts(), images.origin) == ((3, 2), str(tmp_path))
    for _ in range(2):
        assert levels(images, 0, [2, 0, 2]) == [2, 0, 2]
        assert levels(images, 1, [1]) == [11]
    assert images.read(1, torch.tensor([], dtype=torch.long)).shape == (0, 1, 4, 4)


def test_what_was_read_last_is_not_read_again(classes, tmp_path, monkeypatch):
    read = []
    real = files.read_image
    monkeypatch.setattr(files, "read_image", lambda path, form: read.append(path.name) or real(path, form))
    images = ImageFiles(list(classes.values()), FORM, "x", cache_bytes=2 * 16)
    levels(images, 0, [0, 1])
    levels(images, 0, [1, 0])
    assert sorted(read) == ["00.png", "01.png"]
    levels(images, 0, [2])  # 01 was used before 00 in the last call, so it goes
    levels(images, 0, [0])
    assert len(read) == 3
    levels(images, 0, [1])
    assert len(read) == 4


@pytest.mark.parametrize("budget", [10_000, 0])
def test_unreadable_files_stop_or_are_left_out_and_counted(classes, tmp_path, budget):
    classes["a"][1].write_bytes(b"rubbish")
    with pytest.raises(UnreadableImageError, match=r"01\.png"):
        open_files(classes, FORM, tmp_path, budget=budget).read(0, torch.arange(3))
    left_out = LeftOut()
    good, decoded = readable(classes, FORM, left_out, budget)
    assert str(left_out) == "1 unreadable"
    assert bool(decoded) == bool(budget)
    images = open_files(good, FORM, tmp_path, decoded=decoded, budget=budget)
    assert images.counts() == (2, 2)
    assert levels(images, 0, [0, 1]) == [0, 2]


def test_what_was_decoded_before_is_not_read_again(classes, tmp_path, monkeypatch):
    good, decoded = readable(classes, FORM, LeftOut())
    monkeypatch.setattr(files, "read_image", None)
    images = open_files(good, FORM, tmp_path, decoded=decoded)
    assert (levels(images, 0, [0, 1, 2]), levels(images, 1, [0, 1])) == ([0, 1, 2], [10, 11])


def test_a_class_with_nothing_left_is_an_error(classes, tmp_path):
    for path in classes["b"]:
        path.write_bytes(b"")
    good, _ = readable(classes, FORM, LeftOut())
    with pytest.raises(DataError, match="'b'") as caught:
        open_files(good, FORM, tmp_path)
    assert str(tmp_path) in str(caught.value)

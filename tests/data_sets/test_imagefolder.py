"""`imagefolder:PATH`: layouts, splits, and faulty folders."""

import os
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ld3m_plugin.data.imagefolder import load, seeded_split
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions


def fill(folder, count=3, mode="RGB", size=(8, 8), first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.new(mode, size, number if mode == "L" else (number, 2 * number, 0)).save(folder / f"{number:03}.png")


@pytest.fixture
def tree(tmp_path):
    """train/ and val/ with the classes cat (3 and 2 images) and n02084071 (4 and 1)."""
    fill(tmp_path / "train" / "n02084071", 4, first=100)
    fill(tmp_path / "train" / "cat", 3)
    fill(tmp_path / "val" / "n02084071", 1, first=200)
    fill(tmp_path / "val" / "cat", 2, first=50)
    return tmp_path


def load_folder(folder, **options):
    return load(str(folder), DataOptions(**options))


def test_train_and_val(tree):
    task = load_folder(tree)
    assert task.class_names == ("cat", "n02084071")
    assert task.wordnet_ids == (None, "n02084071")
    assert (task.train.counts(), task.test.counts()) == ((3, 4), (2, 1))
    assert (task.image_size, task.channels) == (8, 3)
    assert task.train.read(0, torch.arange(3))[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert task.test.read(0, torch.arange(2))[:, 0, 0, 0].tolist() == [50, 51]
    assert task.source == f"imagefolder {tree} (train/ and val/): 7 train, 3 test"


def test_mean_and_deviation_are_those_of_the_training_images(tree):
    task = load_folder(tree)
    red = torch.tensor([0, 1, 2, 100, 101, 102, 103]).double() / 255
    assert task.mean[0] == pytest.approx(float(red.mean()))
    assert task.std[0] == pytest.approx(float(red.std(correction=0)))
    assert task.mean[2] == 0
    assert task.std[2] > 0
    every = torch.cat([task.normalise(task.train.read(k, torch.arange(n))) for k, n in enumerate((3, 4))])
    assert float(every[:, 0].mean()) == pytest.approx(0, abs=1e-5)


def test_without_val_the_test_folder_is_used_and_val_comes_first(tree):
    shutil.copytree(tree / "val", tree / "test")
    fill(tree / "test" / "cat", 5, first=60)
    assert "(train/ and val/)" in load_folder(tree).source
    shutil.rmtree(tree / "val")
    task = load_folder(tree)
    assert "(train/ and test/)" in task.source
    assert task.test.counts() == (7, 1)


def test_one_tree_is_split_by_class(tmp_path):
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 5, first=100)
    task = load_folder(tmp_path, test_fraction=0.4, split_seed=3)
    assert (task.train.counts(), task.test.counts()) == ((6, 3), (4, 2))
    seen = [
        set(images.read(0, torch.arange(n))[:, 0, 0, 0].tolist()) for images, n in ((task.train, 6), (task.test, 4))
    ]
    assert seen[0] | seen[1] == set(range(10))
    assert not seen[0] & seen[1]
    assert "0.4 of each class held out, seed 3" in task.source


@settings(max_examples=50)
@given(
    count=st.integers(2, 60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_seeded_split_is_disjoint_exhaustive_and_repeats(count, fraction, seed, shuffle):
    names = [f"{number}.png" for number in range(count)]
    train, test = seeded_split(names, fraction, seed, "class")
    assert sorted(train + test) == list(range(count))
    assert train
    assert test
    assert (train, test) == seeded_split(names, fraction, seed, "class")
    listed_otherwise = shuffle.sample(names, count)
    _, again = seeded_split(listed_otherwise, fraction, seed, "class")
    assert {listed_otherwise[i] for i in again} == {names[i] for i in test}


def test_other_seeds_and_classes_split_otherwise():
    names = [f"{number}.png" for number in range(100)]
    splits = {tuple(seeded_split(names, 0.5, seed, key)[1]) for seed in (0, 1) for key in ("cat", "dog")}
    assert len(splits) == 4


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train"):
        fill(tmp_path / name, 4)
    assert load_folder(tmp_path).class_names == ("bus", "train")


def test_hidden_files_and_other_endings_are_ignored(tree):
    (tree / "train" / ".cache").mkdir()
    (tree / "train" / "cat" / "notes.txt").write_text("hello")
    (tree / "train" / "cat" / ".thumbnail.png").write_bytes(b"")
    assert load_folder(tree).train.counts() == (3, 4)


def test_the_folder_may_be_relative_to_a_root(tree):
    assert load(tree.name, DataOptions(root=tree.parent)).train.counts() == (3, 4)
    assert load("", DataOptions(root=tree)).train.counts() == (3, 4)


def test_no_folder(tmp_path):
    with pytest.raises(InvalidOptionError, match="imagefolder:PATH"):
        load("", DataOptions())
    with pytest.raises(DataError, match=r"absent\b"):
        load_folder(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=str(tmp_path / "file")):
        load_folder(tmp_path / "file")


def test_a_missing_training_split_is_an_error(tree):
    shutil.rmtree(tree / "train")
    with pytest.raises(DataError, match="train/") as caught:
        load_folder(tree)
    assert str(tree) in str(caught.value)
    assert "imagefolder:" in str(caught.value)


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
def test_a_class_in_one_split_alone_is_an_error(tree, split, other):
    fill(tree / split / "zebra")
    with pytest.raises(DataError, match=rf"'zebra'.*/{split}\b.*/{other}\b"):
        load_folder(tree)


def test_the_splits_may_spell_a_class_in_two_ways(tmp_path):
    # Decomposed, the name sorts before "pb"; composed, after it.
    for split, name, first in (("train", "p\xe2t\xe9", 0), ("val", "pa\u0302te\u0301", 50)):
        fill(tmp_path / split / name, 2, first=first)
        fill(tmp_path / split / "pb", 2, first=first + 100)
        fill(tmp_path / split / ("T-shirt" if split == "train" else "t_shirt"), 1, first=first + 20)
    task = load_folder(tmp_path)
    assert task.class_names == ("T-shirt", "pb", "p\xe2t\xe9")
    assert [int(task.test.read(k, torch.arange(1))[0, 0, 0, 0]) for k in range(3)] == [70, 150, 50]


@pytest.mark.parametrize("split", [".", "train", "val"])
@pytest.mark.parametrize(("one", "other"), [("p\xe2t\xe9", "pa\u0302te\u0301"), ("Cat", "cat"), ("a-b", "a_b")])
def test_two_folders_of_one_name_are_an_error_that_names_both(tree, split, one, other):
    root = tree / "flat" if split == "." else tree
    for name in (one, other):
        fill(root / split / name)
    if split == "train":
        fill(root / "val" / one)
    with pytest.raises(DataError) as caught:
        load_folder(root)
    assert all(str(root / split / name) in str(caught.value) for name in (one, other))


def test_names_that_differ_in_signs_are_two_classes(tmp_path):
    names = ("+", "-", "C", "C#", "C++")
    for first, name in enumerate(names):
        fill(tmp_path / name, 2, first=10 * first)
    assert load_folder(tmp_path).class_names == names


def test_an_empty_class_is_an_error_that_names_its_folder(tree):
    (tree / "train" / "bird").mkdir()
    with pytest.raises(DataError, match=r"train/bird\b"):
        load_folder(tree)


def test_a_class_with_one_image_cannot_be_split(tmp_path):
    fill(tmp_path / "a", 1)
    with pytest.raises(DataError, match=rf"{tmp_path}/a\b"):
        load_folder(tmp_path)


def test_no_class_folders(tmp_path):
    for count in (0, 2):
        fill(tmp_path, count)
        with pytest.raises(DataError, match=str(tmp_path)):
            load_folder(tmp_path)


def test_unreadable_files_stop_or_are_left_out_and_counted(tree):
    (tree / "train" / "cat" / "000.png").write_bytes(b"rubbish")
    (tree / "val" / "cat" / "050.png").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"train/cat/000\.png.*--skip-unreadable"):
        load_folder(tree)
    task = load_folder(tree, skip_unreadable=True)
    assert (task.train.counts(), task.test.counts()) == ((2, 4), (1, 1))
    assert task.source.endswith("6 train, 2 test; left out: 2 unreadable")


def test_nothing_readable_at_all(tmp_path):
    fill(tmp_path / "a", 3)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a/00\d\.png"):
        load_folder(tmp_path, skip_unreadable=True)


def test_mixed_modes_are_an_error_that_names_two_files(tree):
    fill(tree / "train" / "n02084071", 1, mode="L", first=104)
    with pytest.raises(DataError, match=r"cat/000\.png.*n02084071/104\.png.*grayscale="):
        load_folder(tree)
    assert load_folder(tree, grayscale=True).channels == 1
    assert load_folder(tree, grayscale=False).channels == 3


def test_a_mixed_test_split_is_found_too(tree):
    fill(tree / "val" / "cat", 1, mode="L", first=99)
    with pytest.raises(DataError, match=r"val/cat/099\.png.*grayscale="):
        load_folder(tree)


def test_grayscale_images_give_one_channel(tmp_path):
    fill(tmp_path / "a", 4, mode="L")
    assert load_folder(tmp_path).channels == 1


def test_a_size_is_needed_where_images_differ_or_are_no_squares(tree):
    fill(tree / "train" / "cat", 1, size=(10, 10), first=9)
    with pytest.raises(DataError, match=r"8x8.*009\.png.*10x10.*image_size"):
        load_folder(tree)
    assert load_folder(tree, image_size=6).train.read(0, torch.arange(4)).shape == (4, 3, 6, 6)
    fill(tree / "train" / "cat", 1, size=(8, 9), first=0)
    with pytest.raises(DataError, match=r"000\.png.*8x9.*image_size"):
        load_folder(tree)


def test_both_facts_of_a_mixed_folder_are_one_message(tree):
    fill(tree / "train" / "n02084071", 1, mode="L", size=(10, 9), first=104)
    with pytest.raises(DataError, match=r"n02084071/104\.png.*10x9.*image_size.*grayscale="):
        load_folder(tree)


def ranks(task):
    """Red of the training and of the test images of class a."""
    return [images.read(0, torch.arange(images.counts()[0]))[:, 0, 0, 0].tolist() for images in (task.train, task.test)]


def test_unreadable_files_are_left_out_before_the_split(tmp_path):
    for name, first in (("a", 0), ("b", 100)):
        fill(tmp_path / "whole" / name, 10, first=first)
    shutil.copytree(tmp_path / "whole", tmp_path / "damaged")
    for name in ("extra-1.png", "000-before.png"):
        (tmp_path / "damaged" / "a" / name).write_bytes(b"<html>")
    (tmp_path / "damaged" / "a" / "gone.png").symlink_to("/nowhere")
    for seed in range(5):
        options = {"split_seed": seed, "test_fraction": 0.3}
        whole = load_folder(tmp_path / "whole", **options)
        damaged = load_folder(tmp_path / "damaged", skip_unreadable=True, **options)
        assert ranks(damaged) == ranks(whole) == ranks(load_folder(tmp_path / "whole", skip_unreadable=True, **options))
        assert damaged.source.endswith("14 train, 6 test; left out: 3 unreadable")
        assert (damaged.mean, damaged.std) == (whole.mean, whole.std)


def test_a_class_with_one_readable_image_cannot_be_split(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 2)
    (tmp_path / "a" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'a'"):
        load_folder(tmp_path, skip_unreadable=True)


def test_a_class_of_other_endings_is_an_error_that_names_them(tmp_path):
    fill(tmp_path / "a", 2)
    (tmp_path / "b").mkdir()
    for name in ("1.heic", "2.HEIC", ".thumbs"):
        (tmp_path / "b" / name).touch()
    with pytest.raises(DataError, match=rf"{tmp_path}/b\b.*2 \.heic, 1 hidden"):
        load_folder(tmp_path)


def test_pictures_beside_the_class_folders_are_counted(tmp_path):
    for name in ("a", "b", "."):
        fill(tmp_path / name, 2)
    assert load_folder(tmp_path).source.endswith("left out: 2 outside class folders")


def test_a_class_name_that_is_not_utf8_is_one_line_that_shows_its_bytes(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 2)
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH104 (a path of bytes)
    with pytest.raises(DataError, match=r"caf\\xe9") as caught:
        load_folder(tmp_path)
    assert str(caught.value).isprintable()


def test_file_names_that_are_not_utf8_are_read(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 4)
    os.rename(tmp_path / "a" / "000.png", os.fsencode(tmp_path / "a") + b"/\xe9.png")  # noqa: PTH104 (a path of bytes)
    assert load_folder(tmp_path).train.counts() == (3, 3)

"""Splits by their usual names, wrappers, and folders that only look like splits."""

import pytest
import torch
from PIL import Image

from ld3m_plugin.data.imagefolder import load
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import DataOptions

_colours = iter(range(1, 10**6))


def fill(folder, *classes, count=2):
    """`count` pictures in each of the subfolders, or in the folder itself; no two are the same."""
    for name in classes or (".",):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = next(_colours).to_bytes(3, "big")
            Image.new("RGB", (4, 4), tuple(colour)).save(folder / name / f"{number}.png")


def load_folder(folder, **options):
    return load(str(folder), DataOptions(**options))


TRAIN = ["train", "Train", "TRAINING", "training_set", "train-set", "Training Set", "trainset", "train_data"]
VAL = ["val", "Valid", "validation", "dev", "validation_set", "Val"]
TEST = ["test", "Testing", "test_set", "TestSet", "test-data"]


@pytest.mark.parametrize(
    ("train", "test"),
    [*((name, "val") for name in TRAIN), *(("train", name) for name in [*VAL, *TEST]), ("Training", "Testing")],
)
def test_usual_names_of_splits_are_recognised(tmp_path, train, test):
    fill(tmp_path / train, "cat", "dog", count=3)
    fill(tmp_path / test, "cat", "dog", count=1)
    task = load_folder(tmp_path)
    assert (task.class_names, task.train.counts(), task.test.counts()) == (("cat", "dog"), (3, 3), (1, 1))
    assert task.source == f"imagefolder {tmp_path} ({train}/ and {test}/): 6 train, 2 test"


def test_validation_comes_before_testing_and_the_rest_is_said(tmp_path):
    for name in ("Training", "Validation", "Testing", "annotations", "unlabeled"):
        fill(tmp_path / name, *(() if name == "unlabeled" else ("cat", "dog")))
    for path in (tmp_path / "annotations").rglob("*.png"):
        path.rename(path.with_suffix(".xml"))
    (tmp_path / "README.md").touch()
    assert load_folder(tmp_path).source == (
        f"imagefolder {tmp_path} (Training/ and Validation/): 4 train, 4 test; "
        "left out: 1 .md, 1 Testing/, 1 annotations/, 1 unlabeled/"
    )


def test_train_alone_gives_the_split_of_the_folder_itself(tmp_path):
    fill(tmp_path / "Train", "cat", "dog", count=10)
    (tmp_path / "test").mkdir()
    fill(tmp_path / "test")  # pictures without classes
    task, inside = load_folder(tmp_path, test_fraction=0.3), load_folder(tmp_path / "Train", test_fraction=0.3)
    assert task.test.counts() == (3, 3)
    assert torch.equal(task.test.read(0, torch.arange(3)), inside.test.read(0, torch.arange(3)))
    assert "(Train/, 0.3 of each class held out, seed 0)" in task.source
    assert task.source.endswith("left out: 1 test/")


@pytest.mark.parametrize("layout", ["tree", "splits", "train alone"])
def test_a_wrapper_is_looked_through(tmp_path, layout):
    inside = tmp_path / "archive" / "data"
    for name in {"tree": (".",), "splits": ("train", "test"), "train alone": ("train",)}[layout]:
        fill(inside / name, "cat", "dog")
    (tmp_path / "__MACOSX" / "data").mkdir(parents=True)
    (tmp_path / "readme.txt").touch()
    task = load_folder(tmp_path)
    assert task.class_names == ("cat", "dog")
    assert f"imagefolder {inside} (" in task.source
    assert "1 .txt, 1 __MACOSX" in task.source


def test_a_wrapper_in_each_split_is_looked_through(tmp_path):
    fill(tmp_path / "train" / "train", "cat", "dog")
    fill(tmp_path / "test" / "images", "cat", "dog")
    task = load_folder(tmp_path)
    assert task.class_names == ("cat", "dog")
    assert "(train/train/ and test/images/)" in task.source


def test_one_class_with_subfolders_and_pictures_is_no_wrapper(tmp_path):
    fill(tmp_path / "cat", ".", "indoor", "outdoor")
    assert load_folder(tmp_path).class_names == ("cat",)


@pytest.mark.parametrize(
    ("one", "other"), [("train", "Training"), ("train_set", "train"), ("val", "validation"), ("test", "Testing")]
)
def test_two_names_of_one_split_are_refused(tmp_path, one, other):
    for name in {"train", "test", one, other}:
        fill(tmp_path / name, "cat", "dog")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert all(str(tmp_path / name) in str(caught.value) for name in (one, other))


@pytest.mark.parametrize("splits", [("Training", "Testing"), ("train",)])
def test_a_class_folder_beside_splits_is_refused(tmp_path, splits):
    for name in splits:
        fill(tmp_path / name, "cat", "dog")
    fill(tmp_path, "fox")
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    assert all(name in str(caught.value) for name in (f"{splits[0]}/", str(tmp_path / "fox")))


def test_splits_without_class_folders_are_no_classes(tmp_path):
    fill(tmp_path, "Training", "Testing")
    with pytest.raises(DataError, match="Testing/ and Training/"):
        load_folder(tmp_path)


def test_other_names_with_the_same_classes_are_refused(tmp_path):
    for name in ("seg_train", "seg_test"):
        fill(tmp_path / name, "cat", "dog")
    with pytest.raises(DataError, match="seg_train/ and seg_test/"):
        load_folder(tmp_path)


def test_classes_may_have_such_words_in_their_names(tmp_path):
    fill(tmp_path / "train station", "winter", "summer")
    fill(tmp_path / "test tube", "glass", "plastic")
    fill(tmp_path, "plane", "train")
    assert load_folder(tmp_path).class_names == ("plane", "test tube", "train", "train station")


def test_splits_inside_each_class_are_refused(tmp_path):
    for name in ("bolt", "nut"):
        fill(tmp_path / name, "Train", "test")
    with pytest.raises(DataError, match="look like splits below a class") as refusal:
        load_folder(tmp_path)
    assert str(tmp_path / "Train" / "bolt") in str(refusal.value)


def test_splits_in_one_of_several_folders_are_refused_with_the_folder_to_give(tmp_path):
    fill(tmp_path / "images" / "train", "cat", "dog")
    fill(tmp_path / "images" / "val", "cat", "dog")
    fill(tmp_path / "drawings")
    with pytest.raises(DataError) as refusal:
        load_folder(tmp_path)
    assert f"imagefolder:{tmp_path / 'images'}" in str(refusal.value)


@pytest.mark.parametrize("linked", ["a folder", "a file"])
def test_a_link_into_another_class_is_refused(tmp_path, linked):
    fill(tmp_path, "cat", "dog")
    (tmp_path / "dog" / "more.png").symlink_to(tmp_path / "cat" / ("" if linked == "a folder" else "0.png"))
    with pytest.raises(DataError, match="one file in two classes") as refusal:
        load_folder(tmp_path)
    assert str(tmp_path / "cat" / "0.png") in str(refusal.value)

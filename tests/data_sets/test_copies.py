"""Pictures on both sides of a split, and splits that are one."""

import os
import shutil

import pytest
from PIL import Image

from ld3m_plugin.data import copies
from ld3m_plugin.data.imagefolder import load
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import DataOptions


@pytest.fixture
def tree(tmp_path):
    """train/ and val/ with two classes of 6 and 3 different pictures."""
    for number, (split, name, count) in enumerate(
        [("train", "a", 6), ("train", "b", 6), ("val", "a", 3), ("val", "b", 3)]
    ):
        (tmp_path / split / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (4, 4), (number, index, 0)).save(tmp_path / split / name / f"{index}.png")
    return tmp_path


def load_folder(folder, **options):
    return load(str(folder), DataOptions(**options))


def test_different_pictures_have_no_note(tree):
    assert load_folder(tree).notes == ()


def test_copies_are_named_whatever_their_names_and_classes(tree):
    shutil.copy(tree / "train" / "a" / "1.png", tree / "val" / "b" / "other.png")
    (note,) = load_folder(tree).notes
    assert note.startswith("1 of 7 test images")
    assert str(tree / "train" / "a" / "1.png") in note
    assert str(tree / "val" / "b" / "other.png") in note


def test_a_picture_that_lies_twice_in_a_tree_is_named_if_the_split_parts_it(tree):
    shutil.rmtree(tree / "val")
    for index in range(6):
        shutil.copy(tree / "train" / "a" / f"{index}.png", tree / "train" / "a" / f"copy-{index}.png")
    notes = [load_folder(tree, split_seed=seed, test_fraction=0.3).notes for seed in range(5)]
    assert any(notes)
    assert all("test images are copies" in note for (note,) in filter(None, notes))


def test_many_copies_are_counted_and_a_few_named(tree):
    for index in range(5):
        shutil.copy(tree / "train" / "a" / f"{index}.png", tree / "val" / "a" / f"copy-{index}.png")
    (note,) = load_folder(tree).notes
    assert note.startswith("5 of 11 test images")
    assert note.endswith("and 2 more")


@pytest.mark.parametrize("how", ["a link", "a copy", "linked classes", "a copy with other names"])
def test_a_test_split_that_is_the_training_split_is_refused(tree, how):
    train, val = tree / "train", tree / "val"
    shutil.rmtree(val)
    if how == "a link":
        val.symlink_to(train)
    elif how == "linked classes":
        val.mkdir()
        for name in ("a", "b"):
            (val / name).symlink_to(train / name)
    else:
        shutil.copytree(train, val)
    if how == "a copy with other names":
        for path in [*val.rglob("*.png")]:
            path.rename(path.with_name(f"val-{path.name}"))
    with pytest.raises(DataError) as caught:
        load_folder(tree)
    assert all(str(folder) in str(caught.value) for folder in (train, val))


def test_unreadable_files_are_no_copies(tree):
    for split in ("train", "val"):
        (tree / split / "a" / "empty.png").touch()
    assert load_folder(tree, skip_unreadable=True).notes == ()


def test_two_class_folders_that_are_one_are_refused(tree):
    (tree / "train" / "c").symlink_to(tree / "train" / "b")
    with pytest.raises(DataError, match=r"train/b and .*train/c"):
        load_folder(tree / "train")


def test_files_too_large_for_pictures_are_not_read_to_compare_them(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.touch()
        os.truncate(path, 2**42)  # no block of it is on the disk
    assert copies._copies(paths[:1], paths[1:]) == []


def test_a_picture_that_was_stored_again_in_another_format_is_a_copy(tree):
    Image.open(tree / "train" / "a" / "1.png").save(tree / "val" / "b" / "other.bmp")
    (note,) = load_folder(tree).notes
    assert note.startswith("1 of 7 test images")
    assert str(tree / "train" / "a" / "1.png") in note
    assert str(tree / "val" / "b" / "other.bmp") in note


def test_a_test_split_with_the_training_pictures_in_another_format_is_refused(tree):
    shutil.rmtree(tree / "val")
    for path in sorted((tree / "train").rglob("*.png")):
        stored = tree / "val" / path.relative_to(tree / "train").with_suffix(".bmp")
        stored.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(stored)
    with pytest.raises(DataError, match="val has the same pictures"):
        load_folder(tree)


def test_of_many_files_on_disk_some_are_compared(tree, monkeypatch):
    monkeypatch.setattr(copies, "_COMPARED", 3)
    files = [tree / "train" / "a" / f"{number}.png" for number in range(5)]
    assert copies._some(files) == files[::2]
    assert copies._some(files[:3]) == files[:3]
    assert copies._some([]) == []

"""The ten ImageNet subsets: their tables, and folders found by WordNet id."""

import re
import shutil

import pytest
import torch
from PIL import Image
from torchvision.models._meta import _IMAGENET_CATEGORIES

from ld3m_plugin.data.imagenet import load
from ld3m_plugin.data.imagenet_subsets import ALIASES, SUBSETS, subset_hash
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions

NETTE = [
    "n01440764",
    "n02102040",
    "n02979186",
    "n03000684",
    "n03028079",
    "n03394916",
    "n03417042",
    "n03425413",
    "n03445777",
    "n03888257",
]
# The positions of the published code, GLaD's utils.py, as a second form of the tables.
POSITIONS = {
    "a": [255, 376, 984, 364, 500, 986, 333, 576, 148, 135],
    "b": [129, 916, 90, 275, 995, 874, 102, 259, 685, 139],
    "c": [565, 94, 554, 535, 92, 392, 291, 136, 324, 11],
    "d": [9, 258, 13, 262, 19, 339, 321, 24, 93, 322],
    "e": [816, 96, 100, 145, 739, 713, 783, 76, 688, 326],
    "nette": [0, 217, 482, 491, 497, 566, 569, 571, 574, 701],
    "woof": [193, 182, 258, 162, 155, 167, 159, 273, 207, 229],
    "birds": [84, 130, 88, 144, 145, 22, 96, 9, 100, 89],
    "fruits": [953, 954, 949, 950, 951, 957, 952, 945, 943, 948],
    "cats": [281, 282, 283, 284, 285, 291, 292, 290, 289, 287],
}


@pytest.fixture
def root(tmp_path):
    """imagenette with two training images and one validation image per class, whose red is 10 times the label."""
    for split, count in (("train", 2), ("val", 1)):
        for label, wordnet_id in enumerate(NETTE):
            folder = tmp_path / split / wordnet_id
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 30), (10 * label, number, 0)).save(folder / f"{wordnet_id}_{number}.JPEG", "PNG")
    return tmp_path


def test_there_are_ten_subsets_of_ten_different_ids():
    assert list(SUBSETS) == ["a", "b", "c", "d", "e", "nette", "woof", "birds", "fruits", "cats"]
    for rows in SUBSETS.values():
        ids, names = zip(*rows, strict=True)
        assert len(set(ids)) == len(set(names)) == 10
        assert all(re.fullmatch(r"n\d{8}", wordnet_id) for wordnet_id in ids)


def test_names_are_those_of_the_published_positions_in_torchvisions_list():
    for subset, positions in POSITIONS.items():
        assert [name.lower() for _, name in SUBSETS[subset]] == [_IMAGENET_CATEGORIES[i].lower() for i in positions]


def test_ids_are_sorted_as_the_published_positions_are():
    # ImageNet's positions are those of the sorted ids, so both orders must agree over all ten tables.
    pairs = {
        (i, row[0])
        for subset, positions in POSITIONS.items()
        for i, row in zip(positions, SUBSETS[subset], strict=True)
    }
    assert [wordnet_id for _, wordnet_id in sorted(pairs)] == sorted(wordnet_id for _, wordnet_id in pairs)
    assert len({i for i, _ in pairs}) == len(pairs)


def test_hashes_differ_and_stay():
    assert len({subset_hash(name) for name in SUBSETS}) == 10
    assert (subset_hash("a"), subset_hash("cats")) == ("8354e12e", "daae978b")
    assert set(ALIASES.values()) <= set(SUBSETS)


def test_classes_are_found_by_folder_name_whatever_else_is_there(root):
    for name in ("n00000001", "n99999999", "zzz", "aaa"):
        (root / "train" / name).mkdir()
    (root / "train" / "loose.JPEG").touch()
    task = load("nette", DataOptions(root=root))
    assert task.wordnet_ids == tuple(NETTE)
    assert task.class_names[0] == "tench"
    assert task.class_names[9] == "parachute"
    assert (task.train.counts(), task.test.counts()) == ((2,) * 10, (1,) * 10)
    for label in range(10):
        assert task.train.read(label, torch.arange(2))[:, 0, 64, 64].tolist() == [10 * label] * 2


def test_labels_follow_the_papers_order_and_not_the_folders(root):
    ids = [wordnet_id for wordnet_id, _ in SUBSETS["woof"]]
    assert ids != sorted(ids)
    for split in ("train", "val"):
        for label, wordnet_id in enumerate(ids):
            shutil.copytree(root / split / NETTE[label], root / split / wordnet_id)
    task = load("imagewoof", DataOptions(root=root, image_size=16))
    assert task.wordnet_ids == tuple(ids)
    assert [int(task.train.read(k, torch.tensor([0]))[0, 0, 8, 8]) for k in range(10)] == list(range(0, 100, 10))


def test_defaults_and_what_the_run_says(root, monkeypatch):
    monkeypatch.setenv("IMAGENET_ROOT", str(root))
    task = load("Nette", DataOptions())
    assert (task.image_size, task.channels) == (128, 3)
    assert (task.mean, task.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert task.source == f"imagenet:nette (labels {subset_hash('nette')}) from {root}: 20 train, 10 test"


def test_grayscale_has_statistics_of_its_own(root):
    task = load("nette", DataOptions(root=root, image_size=8, grayscale=True))
    images = torch.cat([task.train.read(k, torch.arange(2)) for k in range(10)]).double() / 255
    assert task.mean == pytest.approx((float(images.mean()),))
    assert task.std == pytest.approx((float(images.std(correction=0)),))


def test_unknown_subsets_name_the_known_ones(root):
    with pytest.raises(InvalidOptionError, match=r"'wof'.*'woof'"):
        load("wof", DataOptions(root=root))
    with pytest.raises(InvalidOptionError, match=r"imagenet:SUBSET.*a, b, birds"):
        load("", DataOptions(root=root))


def test_no_root(root, monkeypatch):
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    with pytest.raises(DataError, match=r"root=PATH.*IMAGENET_ROOT"):
        load("nette", DataOptions())
    with pytest.raises(DataError, match=r"absent\b"):
        load("nette", DataOptions(root=root / "absent"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_an_error(root, split):
    shutil.rmtree(root / split)
    with pytest.raises(DataError, match=f"{split}/") as caught:
        load("nette", DataOptions(root=root))
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_class_is_an_error_that_names_it(root, split):
    shutil.rmtree(root / split / NETTE[4])
    with pytest.raises(DataError, match=rf"/{split}\b.*imagenet:nette.*church.*n03028079"):
        load("nette", DataOptions(root=root))


def test_an_empty_class_is_an_error_that_names_its_folder(root):
    shutil.rmtree(root / "train" / NETTE[4])
    (root / "train" / NETTE[4]).mkdir()
    with pytest.raises(DataError, match=r"train/n03028079\b"):
        load("nette", DataOptions(root=root))


def test_validation_files_without_class_folders_are_an_error(root):
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DataError, match=str(root / "val")):
        load("nette", DataOptions(root=root))


def test_unreadable_files_stop_or_are_left_out(root):
    (root / "train" / NETTE[0] / f"{NETTE[0]}_0.JPEG").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"n01440764_0\.JPEG.*--skip-unreadable"):
        load("nette", DataOptions(root=root))
    task = load("nette", DataOptions(root=root, skip_unreadable=True))
    assert task.train.counts() == (1, *(2,) * 9)
    assert task.source.endswith("19 train, 10 test; left out: 1 unreadable")

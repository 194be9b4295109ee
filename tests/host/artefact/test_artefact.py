"""The artefact: what is written is what was made, and it opens anywhere."""

import unicodedata

import numpy
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.picture_folder import class_folders
from ld3m_plugin.contracts import Latents

METADATA = {"class_names": ["T-shirt/top", "Bag"], "mean": [0.5], "std": [0.25], "data": {"name": "x", "source": "y"}}


def distilled_set(channels=1):
    images = torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    metadata = {**METADATA, "mean": [0.5] * channels, "std": [0.25] * channels}
    return DistilledSet(images, torch.tensor([0, 0, 1, 1]), metadata, Latents({"pixels": images}, ("pixels",)))


def test_round_trip(tmp_path):
    original = distilled_set()
    original.save(tmp_path / "set")
    loaded = DistilledSet.load(tmp_path / "set")
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.labels, original.labels)
    assert torch.equal(loaded.latents["pixels"], original.latents["pixels"])
    assert loaded.latents.learned == {"pixels"}
    assert loaded.class_names == METADATA["class_names"]


def test_is_a_torch_dataset(tmp_path):
    distilled_set().save(tmp_path)
    images, labels = next(iter(DataLoader(DistilledSet.load(tmp_path), batch_size=4)))
    assert images.shape == (4, 1, 8, 8)
    assert labels.tolist() == [0, 0, 1, 1]


def test_soft_labels_round_trip(tmp_path):
    soft = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.0, 1.0]])
    original = distilled_set()
    DistilledSet(original.images, soft, original.metadata).save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert torch.equal(loaded.labels, soft)
    assert loaded.latents is None


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_show_the_images(tmp_path, channels):
    original = distilled_set(channels)
    original.save(tmp_path)
    expected = (original.images[3] * 0.25 + 0.5).clamp(0, 1) * 255
    with Image.open(tmp_path / "images" / "1_Bag" / "1.png") as picture:
        shown = torch.from_numpy(numpy.array(picture)).reshape(8, 8, channels).permute(2, 0, 1)
    assert (shown.float() - expected).abs().max() <= 0.5
    with Image.open(tmp_path / "grid.png") as grid:
        # Two rows of classes, their names beside them, two columns; 8 pixels are enlarged 12 times, with 4 between and around.
        left = grid.width - 2 * (96 + 4)
        assert grid.height == 2 * 96 + 3 * 4
        assert left > 4
        assert grid.getpixel((left, 4)) == pytest.approx(
            tuple(shown_first(original)) if channels == 3 else shown_first(original)[0], abs=1
        )


def test_pictures_sorted_by_name_are_in_the_order_of_the_tensor(tmp_path):
    images = torch.arange(24).view(24, 1, 1, 1).expand(24, 1, 2, 2) / 255
    labels = torch.tensor([0] * 11 + [1] * 13)
    original = DistilledSet(images.contiguous(), labels, {**METADATA, "mean": [0.0], "std": [1.0]})
    original.save(tmp_path)
    paths = sorted((tmp_path / "images").rglob("*.png"))
    assert [Image.open(path).getpixel((0, 0)) for path in paths] == list(range(24))


def shown_first(original):
    return ((original.images[0, :, 0, 0] * 0.25 + 0.5).clamp(0, 1) * 255).round().int().tolist()


def test_card_says_how_to_use_it(tmp_path):
    distilled_set().save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "DistilledSet.load" in card
    assert "mean [0.5] and std [0.25]" in card


@pytest.mark.parametrize(
    "names",
    [
        [f"class {i}" for i in range(12)],
        ["b", "a", "a", "", "_", "B"],
        ["犬", "猫", "-", "Ж"],
        ["x" * 300, "x" * 299 + "y"],
    ],
)
def test_class_folders_sort_in_label_order(names):
    folders = class_folders(names)
    assert sorted(folders) == folders
    assert len({folder.lower() for folder in folders}) == len(names)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("犬", "犬"),
        ("Чёрный кот", "Чёрный-кот"),
        (unicodedata.normalize("NFD", "Pékinois"), "Pékinois"),
        ("great_white", "great_white"),
        ("../../etc", "etc"),
        ("x" * 300, "x" * 80),
        ("x" * 79 + " y", "x" * 79),
        ("𠀀" * 300, "𠀀" * 60),
    ],
)
def test_class_folders_keep_words_of_any_script(name, slug):
    assert class_folders([name]) == [f"0_{slug}"]


@pytest.mark.parametrize("name", ["x" * 300, "𠀀" * 300, "犬" * 300])
def test_long_class_names_are_saved(tmp_path, name):
    original = distilled_set()
    original.metadata["class_names"] = [name, "Bag"]
    original.save(tmp_path)
    assert DistilledSet.load(tmp_path).class_names == [name, "Bag"]
    assert len(list(tmp_path.glob("images/*/*.png"))) == 4


def test_nothing_in_the_artefact_is_a_pickle(tmp_path):
    distilled_set().save(tmp_path)
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".safetensors", ".json", ".jsonl", ".png", ".md"}


def test_files_are_readable_like_other_new_files(tmp_path):
    (tmp_path / "plain").write_text("x")
    distilled_set().save(tmp_path / "set")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "set").iterdir() if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}

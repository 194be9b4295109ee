"""The artefact: what is written is what was made, it opens anywhere, and damage is named."""

import json

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from ld3m_plugin.artefact import DistilledSet, class_folders
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError

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
        # Two rows of classes, two columns; 8 pixels are enlarged 12 times, with a frame of 4 between and around.
        assert grid.size == (2 * 96 + 3 * 4, 2 * 96 + 3 * 4)
        assert grid.getpixel((4, 4)) == pytest.approx(
            tuple(shown_first(original)) if channels == 3 else shown_first(original)[0], abs=1
        )


def shown_first(original):
    return ((original.images[0, :, 0, 0] * 0.25 + 0.5).clamp(0, 1) * 255).round().int().tolist()


def test_card_says_how_to_use_it(tmp_path):
    distilled_set().save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "DistilledSet.load" in card
    assert "mean [0.5] and std [0.25]" in card


def test_class_folders_sort_in_label_order():
    names = [f"class {i}" for i in range(12)]
    assert sorted(class_folders(names)) == class_folders(names)


def test_nothing_in_the_artefact_is_a_pickle(tmp_path):
    distilled_set().save(tmp_path)
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".safetensors", ".json", ".png", ".md"}


def damage(folder, name):
    if name == "truncated":
        file = folder / "images.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    elif name == "garbage json":
        (folder / "metadata.json").write_text("{")
    elif name == "other json":
        (folder / "metadata.json").write_text("[]")
    elif name == "newer":
        content = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps({**content, "format": 99}))
    elif name == "no images":
        (folder / "images.safetensors").unlink()
    elif name == "other tensors":
        save_file({"x": torch.zeros(1)}, folder / "images.safetensors")
    elif name == "wrong channels":
        tensors = load_file(folder / "images.safetensors")
        save_file({**tensors, "images": tensors["images"].repeat(1, 3, 1, 1)}, folder / "images.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated", "images.safetensors is damaged"),
        ("garbage json", "metadata.json is damaged"),
        ("other json", "is not the metadata of a distilled set"),
        ("newer", "has format 99, this version reads up to 1: update"),
        ("no images", "images.safetensors is missing"),
        ("other tensors", "must hold images and labels, it has x"),
        ("wrong channels", "do not fit each other or 1 channels"),
    ],
)
def test_damage_is_named(tmp_path, name, message):
    distilled_set().save(tmp_path)
    damage(tmp_path, name)
    with pytest.raises(ArtefactError, match=message):
        DistilledSet.load(tmp_path)


def test_folder_without_a_set(tmp_path):
    with pytest.raises(ArtefactError, match="no distilled set at"):
        DistilledSet.load(tmp_path)

"""What `export` writes: labels, order and pixels are those of the set, in each format."""

import json
import tarfile

import numpy
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.exports import export
from ld3m_plugin.exports.export_formats import FORMATS


def test_torchvision_reads_the_pictures_in_the_order_of_the_tensor(exported_set, hard, same_picture, tmp_path):
    read = ImageFolder(export(exported_set, "imagefolder", tmp_path / "out"), loader=Image.open)
    assert read.targets == hard.tolist()
    assert [same_picture(picture, index) for index, (picture, _) in enumerate(read)] == [True] * 24


def test_torchvision_reads_the_artefact_in_the_order_of_the_tensor(exported_set, hard, same_picture, tmp_path):
    exported_set.save(tmp_path)
    read = ImageFolder(tmp_path / "images", loader=Image.open)
    assert read.targets == hard.tolist()
    assert all(same_picture(picture, index) for index, (picture, _) in enumerate(read))


def test_pictures_of_mixed_classes_are_listed_in_the_order_of_the_tensor(tmp_path):
    images = torch.arange(4).view(4, 1, 1, 1).expand(4, 1, 2, 2) / 255
    mixed = DistilledSet(images, torch.tensor([1, 0, 1, 0]), {"class_names": ["a", "b"], "mean": [0.0], "std": [1.0]})
    out = export(mixed, "imagefolder", tmp_path / "out")
    listed = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert [record["label"] for record in listed] == [1, 0, 1, 0]
    assert [Image.open(out / record["file_name"]).getpixel((0, 0)) for record in listed] == [0, 1, 2, 3]


def test_torch_reads_the_tensors_without_running_anything(exported_set, tmp_path):
    out = export(exported_set, "glad", tmp_path / "out")
    assert torch.equal(torch.load(out / "images_best.pt", weights_only=True), exported_set.images)
    assert torch.equal(torch.load(out / "labels_best.pt", weights_only=True), exported_set.labels)
    assert json.loads((out / "classes.json").read_text()) == {
        name: exported_set.metadata[name] for name in ("class_names", "mean", "std")
    }


def test_a_slice_of_a_tensor_is_saved_alone(exported_set, tmp_path):
    few = DistilledSet(exported_set.images[:1], exported_set.labels[:1], exported_set.metadata)
    out = export(few, "glad", tmp_path / "out")
    assert (out / "images_best.pt").stat().st_size < exported_set.images.nbytes


def test_numpy_reads_the_arrays(exported_set, tmp_path):
    with numpy.load(export(exported_set, "npz", tmp_path / "out"), allow_pickle=False) as arrays:
        assert numpy.array_equal(arrays["images"], exported_set.images.numpy())
        assert numpy.array_equal(arrays["labels"], exported_set.labels.numpy())
        assert arrays["class_names"].tolist() == exported_set.class_names
        assert arrays["mean"].tolist() == exported_set.metadata["mean"]


def test_shards_are_split_and_equal_to_the_bit_when_made_again(exported_set, hard, tmp_path):
    first, again = (export(exported_set, "webdataset", tmp_path / name, per_shard=10) for name in ("a", "b"))
    shards = sorted(path.name for path in first.glob("*.tar"))
    assert shards == ["set-000000.tar", "set-000001.tar", "set-000002.tar"]
    labels = []
    for name in shards:
        assert (first / name).read_bytes() == (again / name).read_bytes()
        with tarfile.open(first / name) as archive:
            labels += [int(archive.extractfile(entry).read()) for entry in archive if entry.name.endswith(".cls")]
    assert labels == hard.tolist()


@pytest.mark.parametrize("form", [form.name for form in FORMATS])
def test_what_is_there_is_never_replaced(exported_set, form, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for name in ("out.npz", "out.safetensors"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="out"):
        export(exported_set, form, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(("form", "options"), [("npz", {"half": True}), ("glad", {"per_shard": 5}), ("zip", {})])
def test_an_option_without_effect_and_an_unknown_format_are_refused(exported_set, form, options, tmp_path):
    with pytest.raises(UsageError, match=next(iter(options), form)):
        export(exported_set, form, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(exported_set, tmp_path):
    with pytest.raises(ArtefactError, match="no latents"):
        export(exported_set, "latents", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_line_with_the_extra(exported_set, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"ld3m-plugin\[hf\]"):
        export(exported_set, "hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_into_the_folder_unless_told_otherwise(exported_set, ld3m, tmp_path):
    exported_set.save(tmp_path / "set")
    outcome = ld3m("export", "set", "--to", "npz")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "set" / "exports" / "npz.npz").is_file()
    assert ld3m("export", "set", "--to", "npz").code == 2
    assert "imagefolder" in ld3m("export", "set", "--to", "imagefoldr").error

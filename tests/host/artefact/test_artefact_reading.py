"""Damaged files of an artefact: each fault is one line that names the file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError

METADATA = {"class_names": ["T-shirt/top", "Bag"], "mean": [0.5], "std": [0.25], "data": {"name": "x", "source": "y"}}


def distilled_set():
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return DistilledSet(images, torch.tensor([0, 0, 1, 1]), dict(METADATA), Latents({"pixels": images}, ("pixels",)))


def refusal(folder, file):
    """The message of loading `folder`, which must be one line that names the file."""
    with pytest.raises(ArtefactError) as caught:
        DistilledSet.load(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(folder / file) in message
    return message


@pytest.mark.parametrize("change", [lambda content: content[:-10], lambda content: b"", lambda content: b"junk"])
@pytest.mark.parametrize("file", ["images.safetensors", "metadata.json", "latents.safetensors"])
def test_a_damaged_file_is_named(tmp_path, file, change):
    distilled_set().save(tmp_path)
    (tmp_path / file).write_bytes(change((tmp_path / file).read_bytes()))
    refusal(tmp_path, file)


def test_missing_images_are_named(tmp_path):
    distilled_set().save(tmp_path)
    (tmp_path / "images.safetensors").unlink()
    refusal(tmp_path, "images.safetensors")


@pytest.mark.parametrize("content", ["[]", "{}", "3", '{"format": 1, "class_names": ["a"]}'])
def test_other_json_is_no_metadata(tmp_path, content):
    distilled_set().save(tmp_path)
    (tmp_path / "metadata.json").write_text(content)
    refusal(tmp_path, "metadata.json")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"std": [0.5, 0.5]}, "std = [0.5, 0.5]"),
        ({"std": []}, "std = []"),
        ({"std": [0]}, "std.0 = 0"),
        ({"std": [-0.5]}, "std.0 = -0.5"),
        ({"std": [float("nan")]}, "std.0 = nan"),
        ({"std": [float("inf")]}, "std.0 = inf"),
        ({"mean": [float("-inf")]}, "mean.0 = -inf"),
        ({"mean": "x"}, "mean = 'x'"),
        ({"mean": ["0.5"]}, "mean.0 = '0.5'"),
        ({"mean": [True]}, "mean.0 = True"),
        ({"mean": [10**400]}, "mean.0 = 1000"),
        ({"mean": None}, "mean = None"),
        ({"mean": 0.5}, "mean = 0.5"),
        ({"mean": [], "std": []}, "mean = []"),
        ({"format": "1"}, "format = '1'"),
        ({"format": None}, "format = None"),
        ({"format": True}, "format = True"),
        ({"format": 0}, "format = 0"),
        ({"format": 2, "mean": {"later": "form"}}, "format = 2"),
        ({"class_names": []}, "class_names = []"),
        ({"class_names": "ab"}, "class_names = 'ab'"),
        ({"class_names": ["a", 1]}, "class_names.1 = 1"),
        ({"class_names": ["a"] * 2 + [["\n" * 500] * 500]}, "class_names.2 = ["),
    ],
    ids=lambda value: str(value)[:40],
)
def test_junk_in_the_metadata_is_named(tmp_path, changes, named):
    distilled_set().save(tmp_path)
    content = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**content, **changes}))
    assert named in refusal(tmp_path, "metadata.json")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"class_names": ' * 100_000, b"9" * 5000, b"\xff", b"\xef\xbb\xbf{}", b""],
    ids=["nested lists", "nested objects", "long number", "not UTF-8", "byte order mark", "empty"],
)
def test_metadata_that_is_no_json_is_damaged(tmp_path, content):
    distilled_set().save(tmp_path)
    (tmp_path / "metadata.json").write_bytes(content)
    refusal(tmp_path, "metadata.json")


def test_other_keys_of_the_metadata_are_free(tmp_path):
    original = distilled_set()
    original.metadata |= {"mine": {"nested": [None, "x"]}, "mean": [0], "std": [1]}
    original.save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert loaded.metadata == {"format": 1, **original.metadata}
    assert loaded.denormalised().dtype == torch.float32


SOFT = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        (torch.tensor([0, 0, 1, 2]), ("labels", "0", "2")),
        (torch.tensor([-1, 0, 1, 1]), ("labels", "-1", "2")),
        (torch.tensor([0.0, 0.0, 1.0, 1.0]), ("labels", "float32", "int64")),
        (torch.tensor([0, 0, 1, 1], dtype=torch.int32), ("labels", "int32", "int64")),
        (torch.tensor([False, False, True, True]), ("labels", "bool", "int64")),
        (torch.tensor(0), ("labels ()",)),
        (SOFT[:, :, None].clone(), ("labels (4, 2, 1)",)),
        (torch.zeros(3, dtype=torch.int64), ("images (4, 1, 8, 8)", "labels (3,)")),
        (torch.full((4, 3), 1 / 3), ("labels (4, 3)", "2")),
        (torch.zeros(4, 0), ("labels (4, 0)", "2")),
        (SOFT.double(), ("labels", "float64", "float32")),
        (SOFT.long(), ("labels", "int64", "float32")),
        (SOFT * float("nan"), ("labels", "NaN")),
        (SOFT + torch.tensor([0.5, -0.5]), ("labels", "-0.5")),
        (SOFT * 2, ("labels", "2", "1")),
        (SOFT * 0.99, ("labels", "0.99", "1")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_junk_labels_are_named(tmp_path, labels, facts):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, labels=labels)
    message = refusal(tmp_path, "images.safetensors")
    assert all(fact in message for fact in facts)


def replace_tensors(folder, **tensors):
    file = folder / "images.safetensors"
    save_file({**load_file(file), **tensors}, file)


def with_pixel(value):
    images = torch.zeros(4, 1, 8, 8)
    images[3, 0, 7, 7] = value
    return images


@pytest.mark.parametrize(
    ("images", "facts"),
    [
        (with_pixel(float("nan")), ("images", "NaN")),
        (with_pixel(float("inf")), ("images", "NaN")),
        (torch.zeros(4, 1, 8, 8, dtype=torch.float64), ("images", "float64", "float32")),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), ("images", "uint8", "float32")),
        (torch.zeros(4, 1, 8, 6), ("images (4, 1, 8, 6)",)),
        (torch.zeros(4, 1, 0, 0), ("images (4, 1, 0, 0)",)),
        (torch.zeros(4, 64), ("images (4, 64)", "labels (4,)", "1")),
        (torch.tensor(0.0), ("images ()", "labels (4,)", "1")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_junk_images_are_named(tmp_path, images, facts):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, images=images)
    message = refusal(tmp_path, "images.safetensors")
    assert all(fact in message for fact in facts)


def test_a_set_of_no_images_is_named(tmp_path):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, images=torch.zeros(0, 1, 8, 8), labels=torch.zeros(0, dtype=torch.int64))
    assert "images (0, 1, 8, 8)" in refusal(tmp_path, "images.safetensors")


def test_names_of_other_tensors_stay_on_one_line(tmp_path):
    distilled_set().save(tmp_path)
    save_file({"x\ny" * 100: torch.zeros(1)}, tmp_path / "images.safetensors")
    assert "x yx y" in refusal(tmp_path, "images.safetensors")


def test_one_class_name_for_ten_classes(tmp_path):
    images = torch.zeros(10, 1, 8, 8)
    names = {"class_names": [str(k) for k in range(10)]}
    DistilledSet(images, torch.arange(10), {**METADATA, **names}).save(tmp_path)
    content = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**content, "class_names": ["0"]}))
    assert "labels" in refusal(tmp_path, "images.safetensors")


def test_soft_labels_may_be_rounded(tmp_path):
    classes = 1000
    soft = torch.rand(4, classes, generator=torch.Generator().manual_seed(0)).softmax(1).half().float()
    names = [f"c{k}" for k in range(classes)]
    DistilledSet(torch.zeros(4, 1, 8, 8), soft, {**METADATA, "class_names": names}).save(tmp_path)
    assert torch.equal(DistilledSet.load(tmp_path).labels, soft)


@pytest.mark.parametrize(
    ("tensors", "learned"),
    [
        ({"z": torch.zeros(4)}, "pixels"),
        ({"z": torch.arange(4)}, "z"),
        ({"a": torch.zeros(4), "b": torch.zeros(3)}, ""),
        ({}, ""),
    ],
    ids=["learned name", "learned integers", "rows", "no tensors"],
)
def test_junk_latents_are_named(tmp_path, tensors, learned):
    distilled_set().save(tmp_path)
    save_file(tensors, tmp_path / "latents.safetensors", {"learned": learned})
    assert learned in refusal(tmp_path, "latents.safetensors")


def test_without_a_set_the_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(ArtefactError) as raised:
            DistilledSet.load(path)
        assert str(path) in str(raised.value)

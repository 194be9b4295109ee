"""Damaged files of a prior folder: one line that names the file."""

import shutil
from pathlib import Path

import pytest
import torch

from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET, VAE, ROWS = f"unet/{WEIGHTS}", f"vae/{WEIGHTS}", "class_embedding.safetensors"
TENSORS = {UNET: "conv_in.weight", VAE: "decoder.conv_in.weight", ROWS: "weight"}
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("length", [0, 5, -1, None])
def test_a_truncated_file_is_named(copied, name, length, refused):
    folder = copied()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2 if length is None else length])
    assert str(folder / name) in refused(folder)


@pytest.mark.parametrize("name", TENSORS)
def test_a_pointer_of_git_lfs_is_no_tensor_file(copied, name, refused):
    folder = copied()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n")
    assert str(folder / name) in refused(folder)


def cut(dimension):
    return lambda tensors, name: tensors.update({name: tensors[name].movedim(dimension, 0)[:-1].contiguous()})


def put(value):
    return lambda tensors, name: tensors[name].view(-1)[3:4].fill_(value)


#: How a file of tensors is changed, and the words of the message: the tensor in a model, shapes of the class embedding.
CHANGES = {
    "missing": (lambda tensors, name: tensors.pop(name), ("conv_in.weight", "'weight'")),
    "extra": (lambda tensors, name: tensors.update(other=torch.zeros(1)), ("other", "other")),
    "rows": (cut(0), ("conv_in.weight", "(3, 6)")),
    "width": (cut(1), ("conv_in.weight", "(5, 4)")),
    "integers": (
        lambda tensors, name: tensors.update({name: tensors[name].int()}),
        ("conv_in.weight (I32)", "weight (I32)"),
    ),
    "nan": (put(torch.nan), ("conv_in.weight", "weight")),
    "infinity": (put(-torch.inf), ("conv_in.weight", "weight")),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_every_tensor_is_accounted_for(copied, refused, edit_tensors, name, change, words):
    folder = copied()
    edit_tensors(folder / name, lambda tensors: change(tensors, TENSORS[name]))
    message = refused(folder)
    assert words[name == ROWS].replace("conv_in.weight", TENSORS[name]) in message
    assert str(folder / name if name == ROWS else (folder / name).parent) in message


JSON_FILES = ("unet/config.json", "vae/config.json", SCHEDULER, "model_index.json", "prior.json")
NO_JSON = {
    "text": b"{\nbroken",
    "list": b"[1]",
    "null": b"null",
    "empty": b"",
    "latin": b"\xe4",
    "deep": b"[" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_what_is_not_a_json_object_is_named(copied, name, content, refused):
    folder = copied()
    (folder / name).write_bytes(content)
    assert str(folder / name) in refused(folder)


@pytest.mark.parametrize("name", [*JSON_FILES[:4], *TENSORS])
def test_a_missing_file_is_named(copied, name, refused):
    folder = copied()
    (folder / name).unlink()
    assert Path(name).name in refused(folder)


def test_parts_may_be_missing_as_a_whole(copied, edit_json, refused):
    folder = copied()
    for part in ("scheduler", "unet", "vae"):
        shutil.rmtree(folder / part)
        assert str(folder / part) in refused(folder)
    edit_json(folder / "model_index.json", vae=...)
    assert str(folder / "model_index.json") in refused(folder)
    assert "model_index.json" in refused(folder / "scheduler")


FACTS = [
    {"format": 2},
    {"format": ...},
    {"kind": "gan"},
    {"classes": "tench"},
    {"classes": {}},
    {"classes": [1]},
    {"classes": [["tench"]]},
    {"classes": [{"wordnet_id": "n01440764"}]},
    {"classes": [{"name": None}]},
    {"classes": [{"name": "tench", "wordnet_id": 1440764}]},
    {"classes": ...},
    {"null_class": "3"},
    {"null_class": True},
    {"null_class": 3.0},
    {"null_class": 4},
    {"null_class": 2},
    {"null_class": -1},
    {"null_class": -1, "classes": None},
    {"null_class": 4, "classes": None},
    {"source": None},
    {"licence": ["MIT"]},
]


@pytest.mark.parametrize("values", FACTS, ids=str)
def test_damaged_facts_are_refused(copied, edit_json, refused, values):
    folder = copied()
    edit_json(folder / "prior.json", **values)
    assert str(folder / "prior.json") in refused(folder)


def test_rows_and_classes_must_agree(copied, edit_json, refused):
    folder = copied()
    edit_json(folder / "prior.json", null_class=None)
    message = refused(folder)
    assert all(word in message for word in (str(folder / ROWS), "(4, 6)", "(3, 6)"))
    edit_json(folder / "prior.json", null_class=2, classes=[{"name": "a"}, {"name": "b"}])
    assert "(3, 6)" in refused(folder)


def test_without_names_any_number_of_rows_will_do(copied, edit_json):
    folder = copied()
    edit_json(folder / "prior.json", classes=None, null_class=0)
    assert load_prior(folder).class_embedding.shape == (4, 6)
    (folder / "prior.json").unlink()
    assert load_prior(folder).facts == PriorFacts()


def test_a_model_conditioned_on_text_is_not_class_conditional(copied, refused):
    folder = copied()
    (folder / ROWS).unlink()
    assert ROWS in refused(folder)

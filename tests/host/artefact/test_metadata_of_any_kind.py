"""Whatever stands in `metadata.json`: it is read and written, or one line says what is wrong."""

import copy
import json

import pytest
import torch

from ld3m_plugin.artefact.card import dataset_card
from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.cli.artefact_data import recorded_data
from ld3m_plugin.errors import HostError

ROW = {"network": "ConvNet", "images": "distilled", "mean": 50.0, "std": 1.0, "n": 2, "accuracies": [49.0, 51.0]}
FINAL = {"step": 2, "rows": [ROW], "test_images": 100, "protocol": {"name": "quick", "summary": "a recipe"}}
WHOLE = {
    "format": 1,
    "data": {"name": "fashion-mnist", "source": "embedded"},
    "class_names": ["a", "b"],
    "wordnet_ids": [None, None],
    "image_size": 8,
    "channels": 1,
    "mean": [0.5],
    "std": [0.25],
    "images_per_class": 2,
    "generator": {"name": "pixel", "options": {}, "distribution": "x"},
    "objective": {"name": "dm", "options": {}, "distribution": "x"},
    "learned": {"synthetic_learning_rate": 0.1},
    "steps": 2,
    "seed": 0,
    "config": {"data": {"name": "fashion-mnist:embedded", "options": {}}},
    "versions": {"ld3m-plugin": "1"},
    "results": {"final": FINAL, "best_over_test_set_evaluations": None},
}
JUNK = (None, [], {}, -1, "x", 1e400, True, [[]], {"x": None}, 10**400, "\x1b[31m\ud800")


def places(content, path=()):
    """The path of every value inside."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def with_value(path, value):
    content = copy.deepcopy(WHOLE)
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return content


@pytest.fixture
def saved(tmp_path):
    """A distilled set on disk."""
    DistilledSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 0, 1, 1]), WHOLE).save(tmp_path / "set")
    return tmp_path / "set"


def use(folder):
    """Everything that reads metadata."""
    loaded = DistilledSet.load(folder)
    loaded.save_metadata(folder.parent / "again") if (folder.parent / "again").mkdir(exist_ok=True) is None else None
    dataset_card(loaded.metadata)
    _ = loaded.learned, loaded.class_names
    recorded_data(loaded, folder)


@pytest.mark.parametrize("path", list(places(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_junk_at_any_place_is_used_or_one_line(saved, path):
    for junk in JUNK:
        (saved / "metadata.json").write_text(json.dumps(with_value(path, junk)))
        said = ""
        try:
            use(saved)
        except HostError as error:
            said = str(error)
        assert "\n" not in said


@pytest.mark.parametrize("content", ["null", "[]", "1", '"x"', "{}", "[" * 5000], ids=lambda text: text[:9])
def test_content_that_is_no_metadata_is_one_line(saved, content):
    (saved / "metadata.json").write_text(content)
    with pytest.raises(HostError, match=r"metadata\.json"):
        use(saved)


def test_metadata_of_a_script_is_checked_before_anything_is_written(tmp_path):
    images, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    good = {"class_names": ("a", "b"), "mean": (0.5,), "std": (0.25,)}
    for change in (
        {"mean": None},
        {"std": [0.0]},
        {"class_names": [1, 2]},
        {"learned": {"x": object()}},
        {"data": None},
    ):
        with (
            pytest.raises(HostError, match=next(iter(change))) if "learned" not in change else pytest.raises(HostError)
        ):
            DistilledSet(images, labels, {**good, **change}).save(tmp_path / "set")
        assert not (tmp_path / "set").exists()
    DistilledSet(images, labels, good).save(tmp_path / "set")
    assert DistilledSet.load(tmp_path / "set").metadata["mean"] == [0.5]


def test_no_control_character_reaches_the_card():
    names = ["bell\x07", "turned\u202egnp.exe", "red\x1b[31m", "half\ud800"]
    content = {**WHOLE, "class_names": names, "data": {"name": "\x9bm", "source": "\u2066x"}}
    content["results"] = {"final": {**FINAL, "rows": [{**ROW, "network": "\x08net"}]}}
    card = dataset_card(content)
    card.encode()
    assert not {character for character in card if ord(character) < 32} - {"\n"}
    assert not set("\x7f\x9b\u202e\u2066") & set(card)
    assert "turned\\\\u202egnp.exe" in card

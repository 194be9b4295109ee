"""How `scripts/make_embedded_emoji.py` decides on groups, parts, classes and class maps.

The shipped groups, classes and maps are checked against it; the parts follow from names of groups too, which are not shipped.
"""

import json

import pytest

from ld3m_plugin.data.emoji_index import ALL, EMBEDDED_FOLDER, TASKS, categories, drawings


@pytest.fixture(scope="module")
def making(load_script):
    return {name: load_script(f"embedded_emoji.emoji_{name}") for name in ("groups", "split", "categories")}


@pytest.fixture(scope="module")
def shipped(making):
    """The shipped drawings as the script has them, with the number of a group in place of its name."""
    drawing = making["split"].Drawing
    return [drawing(each.code, each.label, each.category, str(each.group)) for each in drawings()]


@pytest.mark.parametrize(
    ("code", "drawing"),
    [
        ("1f468-1f3fd-200d-1f373", "1f9d1-200d-1f373"),  # man cook, medium skin tone -> cook
        ("1f3c3-200d-2640-200d-27a1", "1f3c3-200d-27a1"),  # woman running, facing right -> person running, facing right
        ("2640", "2640"),  # the sign alone is a drawing
        ("1f44d-1f3ff", "1f44d"),
    ],
)
def test_code_points_of_a_drawing(making, code, drawing):
    assert making["groups"].base(code) == drawing


def test_groups_by_label_and_by_hand(making, monkeypatch):
    monkeypatch.setattr(making["groups"], "NEAR", ["ram|ewe"])
    labels = {"1": "red heart", "2": "blue heart", "3": "ram", "4": "ewe", "5": "cow face", "6": "cow", "7": "goat"}
    assert making["groups"].groups(labels) == {"1": "1", "2": "1", "3": "3", "4": "3", "5": "5", "6": "5", "7": "7"}
    monkeypatch.setattr(making["groups"], "NEAR", ["ram|unicorn"])
    with pytest.raises(SystemExit, match="unicorn"):
        making["groups"].groups(labels)


def test_the_groups_that_are_shipped_are_those_of_the_script(making):
    found = making["groups"].groups({each.code: each.label for each in drawings()})
    number: dict[str, int] = {}
    assert all(number.setdefault(found[each.code], each.group) == each.group for each in drawings())
    assert len(number) == len({each.group for each in drawings()}) == 858


def test_a_third_of_the_drawings_is_for_testing_and_a_sixth_of_the_others_for_validation(making):
    drawing, split = making["split"].Drawing, making["split"].split
    part = split([drawing(str(n), str(n), "birds", str(n)) for n in range(36)], {})
    assert sorted(part.values()) == ["test"] * 12 + ["train"] * 20 + ["validation"] * 4


def test_groups_are_shared_out_whole(making):
    drawing, split = making["split"].Drawing, making["split"].split
    pairs = [drawing(str(n), str(n), "birds", str(n // 2)) for n in range(36)]
    part = split(pairs, {})
    assert sorted(part.values()) == ["test"] * 12 + ["train"] * 20 + ["validation"] * 4
    large = split([drawing(str(n), str(n), "birds", "a" if n < 9 else str(n)) for n in range(36)], {})
    # The nine are more than what validation takes, and three quarters of what testing takes.
    assert large["0"] != "validation"
    assert sorted(large.values()) == ["test"] * 12 + ["train"] * 20 + ["validation"] * 4


def test_classes_and_class_maps_that_are_shipped_are_those_of_the_script(making, shipped):
    tasks = making["split"].task_classes(shipped)
    assert tasks == json.loads((EMBEDDED_FOLDER / "tasks.json").read_text(encoding="utf-8"))
    maps = making["split"].class_maps(shipped, tasks)
    assert set(maps) == set(TASKS) - {ALL}
    for task, found in maps.items():
        assert found == json.loads((EMBEDDED_FOLDER / "class-maps" / f"{task}.json").read_text(encoding="utf-8"))


def test_every_category_is_one_of_the_scripts(making):
    assert set(categories()) == set(making["categories"].CATEGORIES)


def test_a_class_that_is_too_large_keeps_one_of_each_group_first(making, monkeypatch):
    split = making["split"]
    monkeypatch.setattr(split, "MOST_DRAWINGS", 3)
    monkeypatch.setattr(split, "TASKS", {"main": {"birds": "birds"}})
    many = [split.Drawing(str(n), str(n), "birds", "a" if n < 4 else str(n)) for n in range(6)]
    (kept,) = split.task_classes(many)["main"].values()
    assert len(kept) == 3
    assert {"4", "5"} < set(kept)  # each a group of its own; of the four that are one, the first
    assert "0" in kept

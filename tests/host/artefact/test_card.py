"""The dataset card: text from data stays text, whatever it holds."""

import re

import pytest
import yaml

from ld3m_plugin.artefact.card import accuracy_table, dataset_card, plain

METADATA = {"class_names": ["T-shirt/top", "Bag"], "mean": [0.5], "std": [0.25], "data": {"name": "x", "source": "y"}}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\n# x", r"a \# x"),
        ("a|b", r"a\|b"),
        ("[x](y)", r"\[x\](y)"),
        ("<b> *c* `d` _e_", r"\<b\> \*c\* \`d\` \_e\_"),
        ("\\|", r"\\\|"),
        ("$x$ &amp; ~~y~~", r"\$x\$ \&amp; \~\~y\~\~"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("---", r"\---"),
        ("T-shirt/top", "T-shirt/top"),
        ("0.1.0", "0.1.0"),
    ],
)
def test_text_from_data_is_no_markdown(text, escaped):
    assert plain(text) == escaped


NASTY = "a\n# x|`y` <img>"


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": [NASTY]},
        {"data": {"name": NASTY, "source": "s"}},
        {"data": {"name": "n", "source": NASTY}},
        {"images_per_class": NASTY},
        {"generator": {"name": NASTY}},
        {"objective": {"name": NASTY}},
        {"versions": {"ld3m-plugin": NASTY}},
        {"steps": NASTY},
        {"seed": NASTY},
    ],
    ids=str,
)
def test_card_has_the_same_structure_whatever_the_names(changes):
    expected = markdown_structure(dataset_card({**METADATA, "class_names": ["a"]}))
    card = dataset_card({**METADATA, "class_names": ["a"], **changes})
    assert markdown_structure(card) == expected
    assert NASTY not in card


def markdown_structure(card):
    """Number of lines, the lines' headings, and tags and cells that are neither escaped nor in a code span."""
    head, body = re.fullmatch(r"---\n(.*?\n)---\n(.*)", card, re.DOTALL).groups()
    assert set(yaml.safe_load(head)) == {"configs", "dataset_info", "tags"}
    text = re.sub(r"\\.", "", body)
    text = re.sub(r"`[^`\n]+`", "", text)
    return len(card.splitlines()), re.findall(r"^#+", card, re.MULTILINE), re.findall(r"[<|]", text)


def test_table_has_a_cell_for_each_column_whatever_the_names():
    table = accuracy_table([{"images": "a|b", "network": "c\n|d", "mean": 50.0, "std": None}])
    assert table.splitlines() == [r"| network | a\|b |", "| --- | ---: |", r"| c \|d | 50.0 |"]


@pytest.mark.parametrize("name", ["no", "007", "a: b", "# x", "---", "'\"", "犬", "😀", "{x}", "", "~"])
def test_the_head_of_a_card_names_the_labels_as_they_are(name):
    card = dataset_card({**METADATA, "class_names": ["a", name]})
    head = yaml.safe_load(re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)[1])
    for features in (head["configs"][0]["features"], head["dataset_info"]["features"]):
        assert features[1]["dtype"]["class_label"]["names"] == {"0": "a", "1": name}

"""`prior.json`, lists of classes, and the digest of a prior's files."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ld3m_plugin import storage
from ld3m_plugin.errors import PriorError
from ld3m_plugin.priors.classes import read_classes
from ld3m_plugin.priors.prior_json import (
    PriorClass,
    PriorFacts,
    converted_from,
    digest,
    read_facts,
    read_json,
    write_facts,
)

GIVEN = PriorFacts((PriorClass("tench", "n01440764"), PriorClass("é")), 2, "somewhere", "MIT")


def refused(read, *arguments):
    with pytest.raises(PriorError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path):
    write_facts(tmp_path, GIVEN, "means")
    return tmp_path


def test_facts_read_back(folder):
    assert read_facts(folder, "means") == GIVEN
    (folder / "prior.json").unlink()
    assert read_facts(folder, "means") == PriorFacts()


names = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.slow
@given(
    st.builds(
        PriorFacts, st.lists(st.builds(PriorClass, names, st.none() | names)).map(tuple), st.none() | st.integers()
    )
)
def test_all_facts_read_back(tmp_path_factory, facts):
    folder = tmp_path_factory.mktemp("prior")
    write_facts(folder, facts, "means")
    assert read_facts(folder, "means") == facts


def edit(folder, **values):
    content = json.loads((folder / "prior.json").read_text())
    content |= values
    present = {name: value for name, value in content.items() if value is not ...}
    (folder / "prior.json").write_text(json.dumps(present))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"format": 0}, "format"),
        ({"format": ...}, "format"),
        ({"kind": 3}, "kind"),
        ({"kind": ...}, "kind"),
        ({"classes": "tench"}, "classes"),
        ({"classes": ...}, "classes"),
        ({"classes": [1]}, "classes.0"),
        ({"classes": [["tench"]]}, "classes.0"),
        ({"classes": [{"wordnet_id": "n01440764"}]}, "classes.0.name"),
        ({"classes": [{"name": "a"}, {"name": None}]}, "classes.1.name"),
        ({"classes": [{"name": "tench", "wordnet_id": 1440764}]}, "classes.0.wordnet_id"),
        ({"null_class": "3"}, "null_class"),
        ({"null_class": True}, "null_class"),
        ({"null_class": 3.0}, "null_class"),
        ({"null_class": ...}, "null_class"),
        ({"source": None}, "source"),
        ({"source": ...}, "source"),
        ({"licence": ["MIT"]}, "licence"),
    ],
    ids=str,
)
def test_a_field_that_is_not_valid_is_named(folder, values, field):
    edit(folder, **values)
    assert f"{folder / 'prior.json'} is damaged ({field}: " in refused(read_facts, folder, "means")


def test_a_later_format_is_not_called_damaged(folder):
    edit(folder, format=2, classes={"in": "another form"})
    message = refused(read_facts, folder, "means")
    assert f"{folder / 'prior.json'} has format 2" in message
    assert "damaged" not in message


def test_what_may_be_left_out(folder):
    edit(folder, licence=..., classes=None, null_class=None, source="", more="ignored")
    assert read_facts(folder, "means") == PriorFacts()


def test_facts_of_another_kind_name_both(folder):
    message = refused(read_facts, folder, "other")
    assert all(word in message for word in (str(folder / "prior.json"), "'means'", "'other'"))


NO_OBJECT = {
    "text": b"{\nbroken",
    "list": b"[1]",
    "null": b"null",
    "empty": b"",
    "latin": b'{"a": "\xe4"}',
    "deep": b'{"a": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", NO_OBJECT.values(), ids=NO_OBJECT)
def test_what_is_not_a_json_object_is_refused(tmp_path, content):
    path = tmp_path / "network.json"
    path.write_bytes(content)
    assert str(path) in refused(read_json, path)


def test_a_missing_file_and_a_folder_in_its_place_are_refused(tmp_path):
    assert f"{tmp_path / 'network.json'} is missing" in refused(read_json, tmp_path / "network.json")
    (tmp_path / "network.json").mkdir()
    assert str(tmp_path / "network.json") in refused(read_json, tmp_path / "network.json")


@pytest.mark.parametrize("name", ["prior.json", "list.json", "list.txt"])
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(storage.bounded, "_LARGEST", 7)
    path = tmp_path / name
    path.write_text('["abc"]')
    if name == "list.json":
        assert read_classes(path) == (PriorClass("abc"),)
    path.write_text('["abcd"]')
    assert str(path) in refused(read_json if name == "prior.json" else read_classes, path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "\ufeffn01440764 tench\r\nn01443537 goldfish\r\n"),
        ("a.txt", "n01440764 tench\n\ufeffn01443537 goldfish\n\ufeff\n"),
        ("a.json", '\ufeff["n01440764 tench", {"name": "goldfish", "wordnet_id": "n01443537"}]'),
    ],
)
def test_a_byte_order_mark_is_no_letter_of_a_class(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert read_classes(tmp_path / name) == (PriorClass("tench", "n01440764"), PriorClass("goldfish", "n01443537"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "n01440764 tench\r\n".encode("utf-16")),
        ("a.json", b'["tench"'),
        ("a.json", b'{"name": "tench"}'),
        ("a.json", b"[3]"),
        ("a.json", b"[null]"),
        ("a.json", b"[{}]"),
        ("a.json", b'[{"name": null}]'),
        ("a.json", b'[{"name": "tench", "wordnet_id": 1440764}]'),
        ("a.json", b"[" * 100_000),
        ("a.json", None),
        ("a.txt", None),
        ("a.txt", b"\xe4"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in refused(read_classes, tmp_path / name)


def test_the_first_class_that_is_not_valid_is_counted(tmp_path):
    (tmp_path / "a.json").write_text('["tench", 3]')
    assert f"{tmp_path / 'a.json'} is damaged (1: " in refused(read_classes, tmp_path / "a.json")


def test_a_digest_is_of_names_and_bytes_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"one")
    (tmp_path / "a").write_bytes(b"two")
    files = [tmp_path / "b" / "x", tmp_path / "missing", tmp_path / "a"]
    parts = b"a\0" + hashlib.sha256(b"two").digest() + b"b/x\0" + hashlib.sha256(b"one").digest()
    assert digest(tmp_path, files) == digest(tmp_path, files[::-1]) == hashlib.sha256(parts).hexdigest()


def test_a_conversion_names_its_file_and_what_the_user_says_of_it(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    assert converted_from(tmp_path / "model.ckpt", None) == f"converted from model.ckpt, SHA-256 {checksum}"
    assert converted_from(tmp_path / "model.ckpt", "mine").startswith("mine; converted from model.ckpt")

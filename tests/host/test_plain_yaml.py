"""YAML of files and of the command line: limits, and numbers that become text where an option takes text."""

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ld3m_plugin.errors import InvalidOptionError, PriorError, UsageError
from ld3m_plugin.options import Options, build
from ld3m_plugin.plain_yaml import dump_yaml, parse_value, parse_yaml, plain, read_yaml


class Several(Options):
    text: str = ""
    perhaps: str | None = "x"
    path: Path | None = None
    number: float = 0.0
    count: int = 0
    switch: bool = False
    names: tuple[str, ...] = ()
    free: dict[str, object] = Field(default_factory=dict)


@pytest.mark.parametrize("option", ["text", "perhaps"])
@pytest.mark.parametrize("typed", ["no", "1e3", "007", "2024-01-01", "1:30", "0x1F", ".inf", "12_3", "yes", "9" * 5000])
def test_an_option_that_takes_text_gets_what_was_typed(option, typed):
    assert getattr(build(Several, {option: parse_value(typed)}, "x"), option) == typed
    assert getattr(build(Several, parse_yaml(f"{option}: {typed}"), "x"), option) == typed


@pytest.mark.parametrize(
    ("option", "typed", "value"),
    [
        ("perhaps", "null", None),
        ("path", "0777", Path("0777")),
        ("path", "2024-01-01", Path("2024-01-01")),
        ("number", "1e-3", 1e-3),
        ("number", "010", 10.0),
        ("count", "010", 10),
        ("count", "1e2", 100),
        ("switch", "true", True),
        ("switch", "no", False),
        ("names", "[007, no, '1']", ("007", "no", "1")),
        ("free", "{a: 010, b: [1e-3], c: True, d: null}", {"a": 10, "b": [1e-3], "c": True, "d": None}),
    ],
)
def test_other_options_get_values(option, typed, value):
    found = getattr(build(Several, {option: parse_value(typed)}, "x"), option)
    assert found == value
    assert type(found) is type(value)


def test_numbers_in_options_are_ordinary_ones():
    free = build(Several, parse_yaml("free: {a: 010, b: [1e-3]}"), "x").free
    assert (type(free["a"]), type(free["b"][0])) == (int, float)


@pytest.mark.parametrize(
    ("option", "typed"),
    [
        ("count", "1:30"),
        ("count", "1.5"),
        ("count", "true"),
        ("number", "false"),
        ("number", "2024-01-01"),
        ("number", "9" * 5000),
        ("number", "1e999"),
        ("switch", "7"),
        ("text", "true"),
        ("text", "null"),
        ("names", "[" * 3000),
    ],
)
def test_what_does_not_fit_is_one_short_line(option, typed):
    with pytest.raises(InvalidOptionError) as raised:
        build(Several, {option: parse_value(typed)}, "plugin x")
    assert str(raised.value).startswith(f"plugin x: {option} = ")
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)


def bomb():
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    return "\n".join(lines).encode()


FAULTY = {
    "open list": b"a: [",
    "not UTF-8": b"\xff\xfe\xff",
    "list": b"- 1",
    "empty": b"",
    "python": b"!!python/object/apply:os.getcwd []",
    "tag": b"a: !!int abc",
    "bomb": bomb(),
    "alias": b"a: &x 1\nb: *x",
    "depth": b"a: " + b"[" * 3000,
    "size": b"a: " + b"x" * 2**20,
    "twice": b"a: 1\na: 2",
    "key": b"? [a]\n: 1",
    "escape": b'a: "\\UFFFFFFFF"',
    "documents": b"a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("error", [UsageError, PriorError])
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, error):
    path = tmp_path / "run.yaml"
    path.write_bytes(FAULTY[name])
    with pytest.raises(error) as raised:
        read_yaml(path, error)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "/dev/zero"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(UsageError) as raised:
        read_yaml(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_names_stay_text(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("0: Bag\nno: 5\n1e3: null\ntrue: yes")
    assert read_yaml(path) == {"0": "Bag", "no": 5, "1e3": None, "true": "yes"}
    assert read_yaml(path, as_text=True) == {"0": "Bag", "no": "5", "1e3": "null", "true": "yes"}


class Sized(Options):
    size: Literal[32, 128] = 32
    name: Literal["32", "1e3"] = "32"


def test_a_number_that_was_typed_is_one_of_those_that_are_allowed():
    # Old versions of pydantic take no subclass of int there.
    made = build(Sized, parse_yaml("{size: 128, name: 1e3}"), "x")
    assert (made.size, type(made.size), made.name) == (128, int, "1e3")
    with pytest.raises(InvalidOptionError, match=r"^x: size = 33: Input should be 32 or 128$"):
        build(Sized, parse_yaml("size: 33"), "x")


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
WORDS = st.text("0123456789eEoxn_.:-+~#", max_size=6)


@pytest.mark.slow
@given(st.dictionaries(st.text(min_size=1, max_size=4), VALUES | WORDS | st.lists(VALUES | WORDS), max_size=4))
def test_what_is_dumped_reads_as_the_same(content):
    found = plain(parse_yaml(dump_yaml(content)))
    assert found == content
    assert repr(found) == repr(content)
    assert yaml.safe_load(dump_yaml(content)) == content


@given(VALUES | WORDS | st.lists(VALUES))
def test_what_an_older_version_wrote_reads_as_the_same_value(value):
    written = yaml.safe_dump({"free": {"a": value}, "text": value if isinstance(value, str) else ""})
    found = build(Several, parse_yaml(written), "x")
    assert isinstance(value, str) or found.free["a"] == value
    assert found.text == (value if isinstance(value, str) else "")


@pytest.mark.parametrize("text", ["0x" + "f" * 5000, "0o" + "7" * 5000, "1" * 5000, "-" + "9" * 4000])
def test_numbers_that_python_cannot_write_are_text(text):
    # A message that quotes such a number would itself be an error.
    assert parse_value(text) == text

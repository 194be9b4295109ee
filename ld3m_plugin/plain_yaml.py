"""YAML as people mean it: the core schema of YAML 1.2, in which `no` and `2024-01-01` are text and `010` is ten.

A number remembers how it was written until the option it is for is known: an option that takes text gets `007`, not 7. Nothing
in a file is executed, and its size, depth and references are limited.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ld3m_plugin.errors import HostError, UsageError, one_line
from ld3m_plugin.storage import open_regular

_MOST_BYTES, _MOST_DEPTH = 2**18, 50

_MOST_DIGITS = 1000  # of a whole number: Python reads longer ones in base 16 and cannot write them in base 10

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class WrittenInt(int):
    """An integer that remembers how it was written: `007`, `0x1F`."""

    text: str


class WrittenFloat(float):
    """A float that remembers how it was written: `1e3`."""

    text: str


def read_yaml(path: Path, error: type[HostError] = UsageError, *, as_text: bool = False) -> dict[str, Any]:
    """Read a mapping from a YAML or JSON file. Keys are text; numbers are `WrittenInt` and `WrittenFloat`.

    Args:
        error: what is raised for a file that cannot be used; the message is one line that names it.
        as_text: keep every value as it is written, such as `no` and `5` for names of classes.

    Raises:
        HostError: `error`, for a file that is missing, too large, not valid YAML or not a mapping.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    if len(content) > _MOST_BYTES:
        raise error(f"cannot read {path}: it is larger than {_MOST_BYTES} bytes")
    try:
        parsed = parse_yaml(content.decode("utf-8"), as_text=as_text)
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        mark = getattr(problem, "problem_mark", None)
        reason = str(problem) if mark is None else f"line {mark.line + 1}: {getattr(problem, 'problem', problem)}"
        raise error(f"{path} is not valid YAML: {one_line(reason)}") from problem
    if not isinstance(parsed, dict):
        raise error(f"{path} must hold a mapping: write a line `key: value` for each setting")
    return parsed


def line_of(path: Path, keys: Sequence[str]) -> int | None:
    """The line (from 1) of a YAML file at which the setting `keys` stands; None where it is not there."""
    try:
        with open_regular(path) as file:
            node = _Loader(file.read(_MOST_BYTES).decode()).get_single_node()
    except (OSError, yaml.YAMLError, HostError, ValueError, RecursionError):
        return None
    line = None
    for wanted in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == wanted), None)
        if found is None:  # items of a list: the line of the list
            return line if line is not None and not isinstance(node, yaml.MappingNode) else None
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def parse_yaml(text: str, *, as_text: bool = False) -> Any:
    """Read one YAML document.

    >>> parse_yaml("{rate: 1e-3, name: no, sizes: [08, 2]}")
    {'rate': 0.001, 'name': 'no', 'sizes': [8, 2]}

    Raises:
        yaml.YAMLError: not YAML, tags, references (`*name`), a key that is given twice, or nested too deep.
    """
    try:
        node = _Loader(text).get_single_node()
    except (ValueError, OverflowError) as error:  # of an escape or a version number that is out of range
        raise yaml.YAMLError(str(error)) from error
    return None if node is None else _value(node, as_text)


def parse_value(text: str) -> Any:
    """Read a value of the command line: lists, mappings and quoted text as YAML, all other text as one word or number.

    >>> [parse_value(text) for text in ("1e-3", "imagefolder:/a", "[1, 2]", "'1'", "null", "a # b")]
    [0.001, 'imagefolder:/a', [1, 2], '1', None, 'a # b']
    """
    text = text.strip()
    if text.startswith(("[", "{", '"', "'")):
        with suppress(yaml.YAMLError):
            return parse_yaml(text)
    return _scalar(text)


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Write plain data as YAML that `read_yaml` reads as the same, and readers of YAML 1.1 too."""
    return str(yaml.dump(plain(content), Dumper=_Dumper, sort_keys=False))


def plain(value: Any) -> Any:
    """`value` with ordinary numbers in place of those that remember how they were written."""
    return _with_numbers(value, lambda number: int(number) if isinstance(number, int) else float(number))


def as_written(value: Any) -> Any:
    """`value` with the text of every number that remembers it."""
    return _with_numbers(value, lambda number: number.text)


def _with_numbers(value: Any, change: Callable[[WrittenInt | WrittenFloat], Any]) -> Any:
    if isinstance(value, WrittenInt | WrittenFloat):
        return change(value)
    if type(value) is dict:
        return {key: _with_numbers(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_numbers(item, change) for item in value)
    return value


class _Loader(yaml.SafeLoader):
    """Composes nodes within limits; `_value` makes values of them, so that no tag constructs anything."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            refused = "references (*name)" if isinstance(event, yaml.AliasEvent) else f"tags ({event.tag})"
            raise yaml.MarkedYAMLError(problem=f"{refused} are not supported", problem_mark=event.start_mark)
        if self.depth == _MOST_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {_MOST_DEPTH} levels", problem_mark=event.start_mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.2 would read as a number, not only what YAML 1.1 would."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"(?:{_INTEGER.pattern}|{_FLOAT.pattern})$"), list("-+.0123456789")
)


def _value(node: yaml.Node, as_text: bool) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, as_text) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        return node.value if as_text or node.style is not None else _scalar(node.value)
    mapping: dict[str, Any] = {}
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in mapping:
            problem = (
                f"the key {key.value!r} is given twice" if isinstance(key, yaml.ScalarNode) else "a key is not text"
            )
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        mapping[key.value] = _value(item, as_text)
    return mapping


def _scalar(text: str) -> Any:
    """The value of unquoted text in YAML's core schema."""
    number: WrittenInt | WrittenFloat
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    try:
        if _INTEGER.fullmatch(text):
            if len(text) > _MOST_DIGITS:
                return text
            number = WrittenInt(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        elif _FLOAT.fullmatch(text):
            number = WrittenFloat(text)
        elif _SPECIAL.fullmatch(text):
            number = WrittenFloat(text.replace(".", ""))
        else:
            return text
    except ValueError:  # more digits than Python converts
        return text
    number.text = text
    return number

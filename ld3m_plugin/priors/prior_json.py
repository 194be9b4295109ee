"""What a prior folder says beside its weights, in `prior.json`, and what a prior is known by: the digest of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import PriorError
from ld3m_plugin.storage import write_json
from ld3m_plugin.task import Task

FACTS = "prior.json"
_FORMAT = 1


@dataclass(frozen=True)
class PriorClass:
    """One class a prior was trained on."""

    name: str
    wordnet_id: str | None = None


@dataclass(frozen=True)
class PriorFacts:
    """What the tensors do not say.

    Attributes:
        classes: in the order of the rows of the class embedding; empty when unconditional or unknown.
        null_class: row of the class embedding that stands for "no class", or None.
        source: where the weights come from.
        licence: of the weights, or None when it is not stated.
    """

    classes: tuple[PriorClass, ...] = ()
    null_class: int | None = None
    source: str = "unknown"
    licence: str | None = None


def classes_of(task: Task) -> tuple[PriorClass, ...]:
    """The task's classes, for a prior that is trained on it."""
    return tuple(starmap(PriorClass, zip(task.class_names, task.wordnet_ids, strict=True)))


def read_facts(folder: Path, kind: str) -> PriorFacts:
    """What `prior.json` says; without the file nothing is known.

    Args:
        kind: of the priors the caller can read.

    Raises:
        PriorError: the file is not what `write_facts` writes, or of another kind.
    """
    path = folder / FACTS
    if not path.exists():
        return PriorFacts()
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise PriorError(f"{path} has format {content['format']!r}, this version reads {_FORMAT}")
        if content["kind"] != kind:
            raise PriorError(f"{path} is of a prior of kind {content['kind']!r}, not {kind!r}")
        null = content["null_class"]
        if null is not None and (not isinstance(null, int) or isinstance(null, bool)):
            raise ValueError(f"null_class {null!r} is not a row number")
        source, licence = _text(content, "source"), _text(content, "licence", optional=True)
        return PriorFacts(_classes(content["classes"]), null, source or "unknown", licence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PriorError(f"{path} is damaged ({error!r}): write the prior again") from error


def write_facts(folder: Path, facts: PriorFacts, kind: str) -> None:
    """Write `prior.json`."""
    write_json(folder / FACTS, {"format": _FORMAT, "kind": kind, **asdict(facts)})


def _classes(listed: Any) -> tuple[PriorClass, ...]:
    if listed is not None and not isinstance(listed, list):
        raise ValueError("classes is not a list")
    return tuple(PriorClass(str(_text(row, "name")), _text(row, "wordnet_id", optional=True)) for row in listed or ())


def _text(content: Any, key: str, *, optional: bool = False) -> str | None:
    value = content.get(key) if optional else content[key]
    if isinstance(value, str) or (optional and value is None):
        return value
    raise ValueError(f"{key} {value!r} is not text")


def read_json(path: Path) -> Any:
    """The mapping in a JSON file.

    Raises:
        PriorError: it is missing or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PriorError(f"{path} is missing: {path.parent} is not a complete prior folder") from error
    except (ValueError, OSError, RecursionError) as error:
        raise PriorError(f"{path} is not readable JSON ({error}): write the prior again") from error
    if not isinstance(content, Mapping):
        raise PriorError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def digest(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names, relative to `folder`, and the bytes of those of `files` that are there, in the order of names."""
    total = hashlib.sha256()
    there = (path for path in files if path.is_file())
    for path in sorted(there, key=lambda path: path.relative_to(folder).as_posix()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def converted_from(source: Path, note: str | None) -> str:
    """What `PriorFacts.source` says of a conversion: where the file is from, its name and SHA-256."""
    with source.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{note + '; ' if note else ''}converted from {source.name}, SHA-256 {checksum}"

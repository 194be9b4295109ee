"""`prior.json`, the facts that a prior folder holds beside its weights, and the digest that identifies a prior."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import StrictInt, TypeAdapter, ValidationError

from ld3m_plugin import storage
from ld3m_plugin.errors import PriorError, one_line
from ld3m_plugin.storage import open_regular, write_json

if TYPE_CHECKING:
    from ld3m_plugin.task import Task

FACTS = "prior.json"
#: How a prior was trained, for the record; converted priors have no such file.
TRAINING = "training.json"
_T = TypeVar("_T")


@dataclass(frozen=True)
class PriorClass:
    """One class a prior was trained on."""

    name: str
    wordnet_id: str | None = None


@dataclass(frozen=True)
class PriorFacts:
    """Facts that the tensors do not hold.

    Attributes:
        classes: in the order of the rows of the class embedding; empty when unconditional or unknown.
        null_class: row of the class embedding that stands for "no class", or None.
        source: origin of the weights.
        licence: of the weights; None: not stated.
    """

    classes: tuple[PriorClass, ...] = ()
    null_class: int | None = None
    source: str = "unknown"
    licence: str | None = None


def classes_of(task: Task) -> tuple[PriorClass, ...]:
    """List the task's classes, for a prior that is trained on it."""
    return tuple(starmap(PriorClass, zip(task.class_names, task.wordnet_ids, strict=True)))


@dataclass(frozen=True)
class _FactsFile:
    """Content of `prior.json`."""

    format: Literal[1]
    kind: str
    classes: list[PriorClass] | None
    null_class: StrictInt | None
    source: str
    licence: str | None = None


_FACTS, _OBJECT = TypeAdapter(_FactsFile), TypeAdapter(dict[str, Any])


def read_facts(folder: Path, kind: str) -> PriorFacts:
    """Read `prior.json`; a missing file gives empty facts.

    Args:
        kind: of the priors the caller can read.

    Raises:
        PriorError: the file is not what `write_facts` writes, or of another kind.
    """
    path = folder / FACTS
    if not path.exists():
        return PriorFacts()
    version = read_json(path).get("format")
    if isinstance(version, int) and version > 1:  # a later format may write the rest in another way
        raise PriorError(f"{path} has format {version}, this version reads 1: update ld3m-plugin")
    content = read_as(_FACTS, path)
    if content.kind != kind:
        raise PriorError(f"{path} is of a prior of kind {content.kind!r}, not {kind!r}: name a prior of kind {kind!r}")
    return PriorFacts(tuple(content.classes or ()), content.null_class, content.source or "unknown", content.licence)


def write_facts(folder: Path, facts: PriorFacts, kind: str) -> None:
    """Write `prior.json`."""
    write_json(folder / FACTS, {"format": 1, "kind": kind, **asdict(facts)})


def read_json(path: Path) -> Any:
    """Read the object in a JSON file of a prior folder.

    Raises:
        PriorError: it is missing, too large, or not a JSON object.
    """
    return read_as(_OBJECT, path)


def read_as(kind: TypeAdapter[_T], path: Path, advice: str = "write the prior again") -> _T:
    """Read a JSON file of at most 16 MiB.

    Args:
        kind: type of the content.
        advice: what to do about a damaged file, for the message.

    Raises:
        PriorError: the file is missing, too large or of another type; the line names the path and the first problem.
    """
    try:
        return kind.validate_python(storage.read_json(path, lambda message: PriorError(f"{message}: {advice}")))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        reason = ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))
        raise PriorError(f"{path} is damaged ({one_line(reason)}): {advice}") from error


def digest(folder: Path, files: Iterable[Path]) -> str:
    """Compute the SHA-256 of names (relative to `folder`) and bytes of `files`, in the order of names; skip missing files."""
    total = hashlib.sha256()
    there = (path for path in files if path.is_file())
    for path in sorted(there, key=lambda path: path.relative_to(folder).as_posix()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with open_regular(path) as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def converted_from(source: Path, note: str | None) -> str:
    """Compose `PriorFacts.source` of a conversion: the user's note, the file's name and its SHA-256."""
    with open_regular(source) as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{note + '; ' if note else ''}converted from {source.name}, SHA-256 {checksum}"

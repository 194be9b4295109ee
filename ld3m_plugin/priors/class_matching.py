"""The task's classes in the prior's words: by WordNet id, then by name, then by what the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import InvalidOptionError, nearest
from ld3m_plugin.priors.prior_json import PriorFacts

UNCONDITIONAL = "unconditional"
_LISTED = 20


def rows_of_classes(task: Task, facts: PriorFacts, class_map: Path | None, unmatched: str) -> list[int]:
    """The row of the prior's class embedding that each of the task's K classes starts from.

    Args:
        class_map: YAML or JSON file, task class (name or WordNet id) -> class of the prior (name, WordNet id or
            `unconditional`); it goes before everything else.
        unmatched: what becomes of a class that is found nowhere: `error`, `unconditional`, or a class of the prior.

    Raises:
        InvalidOptionError: a class without match; or a file or a name that is not there.
    """
    chosen = read_class_map(class_map, task) if class_map is not None else {}
    rows = []
    for name, wordnet_id in zip(task.class_names, task.wordnet_ids, strict=True):
        wanted = chosen.get(name, chosen.get(wordnet_id or ""))
        if wanted is not None:
            rows.append(_row(facts, wanted, f"class_map {class_map}"))
            continue
        row = _match(facts, name, wordnet_id)
        rows.append(_unmatched(facts, name, unmatched) if row is None else row)
    return rows


def read_class_map(path: Path, task: Task) -> dict[str, str]:
    """The mapping in a YAML or JSON file.

    Raises:
        InvalidOptionError: it is not readable, not a mapping of text to text, or names a class the task does not have.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise InvalidOptionError(f"class_map {path} is not readable: {reason}") from error
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in content.items()
    ):
        raise InvalidOptionError(f"class_map {path} must map class names of the task to class names of the prior")
    known = {*task.class_names, *(wordnet_id for wordnet_id in task.wordnet_ids if wordnet_id)}
    for name in content:
        if name not in known:
            raise InvalidOptionError(f"class_map {path}: the task has no class {name!r}; {nearest(name, known)}")
    return dict(content)


def _match(facts: PriorFacts, name: str, wordnet_id: str | None) -> int | None:
    for row, known in enumerate(facts.classes):
        if wordnet_id is not None and known.wordnet_id == wordnet_id:
            return row
    # A name may stand for several things (crane, the bird or the machine): ids that differ are no match.
    rows = [
        row
        for row, known in enumerate(facts.classes)
        if _plain(known.name) == _plain(name) and None in (wordnet_id, known.wordnet_id)
    ]
    exact = [row for row in rows if facts.classes[row].name == name]
    rows = exact or rows
    if len(rows) > 1:
        ids = " and ".join(str(facts.classes[row].wordnet_id) for row in rows)
        raise InvalidOptionError(
            f"the prior has several classes {name!r} ({ids}): choose one by its id in a class_map file"
        )
    return rows[0] if rows else None


def _unmatched(facts: PriorFacts, name: str, unmatched: str) -> int:
    if unmatched != "error":
        return _row(facts, unmatched, "unmatched")
    if not facts.classes:
        raise InvalidOptionError(
            f"nothing says which classes this prior knows, so none can be found for {name!r}: write their names into its "
            "prior.json (docs/priors.md)"
        )
    without = "unmatched=unconditional, " if facts.null_class is not None else ""
    raise InvalidOptionError(
        f"the prior has no class {name!r} ({_choices(facts, name)}): give a class_map file, {without}or unmatched=CLASS to start "
        "from that class of the prior"
    )


def _row(facts: PriorFacts, wanted: str, where: str) -> int:
    if wanted == UNCONDITIONAL:
        if facts.null_class is None:
            raise InvalidOptionError(
                f"{where}: the prior was trained with a class always, there is no unconditional row"
            )
        return facts.null_class
    row = _match(facts, wanted, None)
    if row is None:
        row = next((index for index, known in enumerate(facts.classes) if known.wordnet_id == wanted), None)
    if row is None:
        raise InvalidOptionError(f"{where}: the prior has no class {wanted!r}; {_choices(facts, wanted)}")
    return row


def _choices(facts: PriorFacts, name: str) -> str:
    names = [known.name for known in facts.classes]
    if len(names) <= _LISTED:
        return nearest(name, names)
    return nearest(name, get_close_matches(name, names, 3, 0.4)) + f" and others, {len(names)} in all"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()

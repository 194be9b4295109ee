"""Matching the task's classes with the prior's: by the user's class map, WordNet id, name, or the name of a broader class."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.class_names import comparable, composed
from ld3m_plugin.errors import InvalidOptionError, nearest, one_line, typed
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.priors.prior_json import PriorFacts
from ld3m_plugin.registry import current_registry

UNCONDITIONAL = "unconditional"
_LISTED = 20


def rows_of_classes(
    task: Task, facts: PriorFacts, class_map: Path | Mapping[str, str] | None, unmatched: str, kind: str = "ldm"
) -> list[int]:
    """Find the row of the prior's class embedding for each of the task's K classes.

    Args:
        class_map: task class (name or WordNet id) -> class of the prior (name, WordNet id or `unconditional`), or a YAML or JSON
            file with that; overrides ids and names.
        unmatched: for a class without match: `error`, `unconditional`, or the name of a class of the prior.
        kind: of the prior, for the message about a class without match.

    Raises:
        InvalidOptionError: a class without match, or an unknown file or name.
    """
    chosen = read_class_map(class_map, task) if class_map is not None else {}
    rows = []
    for k, (name, wordnet_id) in enumerate(zip(task.class_names, task.wordnet_ids, strict=True)):
        wanted = chosen.get(k)
        if wanted is not None:
            row: int | None = _row(facts, wanted, _called(class_map))
        else:
            row = _match(facts, name, wordnet_id)
            if row is None and task.broader and (broader := task.broader[k]) is not None:
                row = _match(facts, broader, None)
        rows.append(_unmatched(facts, name, unmatched, own_prior(task, kind)) if row is None else row)
    return rows


def read_class_map(class_map: Path | Mapping[str, str], task: Task) -> dict[int, str]:
    """Read a class map, in a YAML or JSON file if it is a path: index of the task's class -> class of the prior.

    Raises:
        InvalidOptionError: the file is not readable, not a mapping of text to text, names an unknown class of the task, or maps
            a class twice.
    """
    called = _called(class_map)
    content = class_map if isinstance(class_map, Mapping) else read_yaml(class_map, InvalidOptionError, as_text=True)
    if not all(isinstance(value, str) for value in content.values()):
        raise InvalidOptionError(f"{called} must map class names of the task to class names of the prior")
    chosen: dict[int, str] = {}
    keys: dict[int, str] = {}
    for key, wanted in content.items():
        for k in _classes_of_key(key, task, called):
            if k in keys:
                raise InvalidOptionError(
                    f"{called} maps class {task.class_names[k]!r} twice, by {keys[k]!r} and {key!r}: remove one line"
                )
            keys[k], chosen[k] = key, wanted
    return chosen


def _called(class_map: Path | Mapping[str, str] | None) -> str:
    return f"class_map {class_map}" if isinstance(class_map, Path) else "class_map"


def _classes_of_key(key: str, task: Task, called: str) -> list[int]:
    """Indices of the task's classes that a key of a class map names: as written, by WordNet id, or else by another spelling."""
    labels = list(enumerate(zip(task.class_names, task.wordnet_ids, strict=True)))
    if found := [k for k, label in labels if key in label]:
        return found
    found = [k for k, (name, _) in labels if comparable(name) == comparable(key)]
    if not found:
        known = {*task.class_names, *filter(None, task.wordnet_ids)}
        raise InvalidOptionError(f"{called}: the task has no class {key!r}; {nearest(key, known)}")
    if len(found) > 1:
        alike = " or ".join(repr(task.class_names[k]) for k in found)
        raise InvalidOptionError(f"{called}: class {key!r} may be {alike}: write the name as the task does")
    return found


def _match(facts: PriorFacts, name: str, wordnet_id: str | None) -> int | None:
    if wordnet_id is not None and (row := _row_of_id(facts, wordnet_id)) is not None:
        return row
    # A name may have several meanings (crane, the bird or the machine): classes with different ids do not match.
    rows = [
        row
        for row, known in enumerate(facts.classes)
        if comparable(known.name) == comparable(name) and None in (wordnet_id, known.wordnet_id)
    ]
    exact = [row for row in rows if composed(facts.classes[row].name) == composed(name)]
    rows = exact or rows
    if len(rows) > 1:
        ids = " and ".join(str(facts.classes[row].wordnet_id) for row in rows)
        raise InvalidOptionError(f"the prior has several classes {name!r} ({ids}): choose one by its id in a class_map")
    return rows[0] if rows else None


def _row_of_id(facts: PriorFacts, wordnet_id: str) -> int | None:
    return next((row for row, known in enumerate(facts.classes) if known.wordnet_id == wordnet_id), None)


def _unmatched(facts: PriorFacts, name: str, unmatched: str, advice: str) -> int:
    if unmatched != "error":
        return _row(facts, unmatched, "unmatched")
    if not facts.classes:
        raise InvalidOptionError(
            f"this prior does not name its classes, so class {name!r} cannot be matched: write their names into its "
            "prior.json (docs/priors.md)"
        )
    without = "unmatched=unconditional, " if facts.null_class is not None else ""
    raise InvalidOptionError(
        f"the prior has no class {name!r} ({_choices(facts, name)}): {advice}, take the generator pixel (-g pixel), or give a "
        f"class_map (a file; in Python also a dict), {without}or unmatched=CLASS to start from that class of the prior"
    )


def own_prior(task: Task, kind: str) -> str:
    """Advice to train a prior on the data of the task, with the command to type."""
    options = "".join(f" -D {name}={value}" for name, value in task.read_with.items())
    data = task.name
    if data.partition(":")[0] not in current_registry().names("dataset"):  # made in Python
        data, options = "imagefolder:FOLDER", f" -D image_size={task.image_size}"
    place = "network" if kind == "gan" else "prior"
    return (
        f"train a prior on this data (`ld3m prior train {kind} --data {data}{options} -S size=tiny --out my-prior`, then "
        f"{typed('-G', place, 'my-prior')})"
    )


def _row(facts: PriorFacts, wanted: str, where: str) -> int:
    if wanted == UNCONDITIONAL:
        if facts.null_class is None:
            raise InvalidOptionError(
                f"{where}: this prior has no unconditional row, it was always trained with a class: name a class"
            )
        return facts.null_class
    row = _match(facts, wanted, None)
    row = _row_of_id(facts, wanted) if row is None else row
    if row is None:
        raise InvalidOptionError(f"{where}: the prior has no class {one_line(repr(wanted))}; {_choices(facts, wanted)}")
    return row


def _choices(facts: PriorFacts, name: str) -> str:
    names = [known.name for known in facts.classes]
    if len(names) <= _LISTED:
        return nearest(name, names)
    return nearest(name, get_close_matches(name, names, 3, 0.4)) + f" and others, {len(names)} in all"

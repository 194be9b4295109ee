"""Whether a distilled set and a data set fit: labels mean the same, pixels are scaled alike, images are those it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.class_names import comparable
from ld3m_plugin.data.identity import data_difference, exchanged_classes, recorded_facts
from ld3m_plugin.errors import ArtefactError, one_line


def check_labels(metadata: Mapping[str, Any], task: Task) -> None:
    """Check that a label means the same class in a distilled set with this metadata and in `task`.

    Raises:
        ArtefactError: the classes are in another order, or one has the images that the set knows under another name.
    """
    if not isinstance(metadata, Mapping):  # of an image set of somebody else
        return
    recorded, names = [comparable(str(name)) for name in metadata.get("class_names", ())], _compared(task)
    if recorded != names and sorted(recorded) == sorted(names):
        raise ArtefactError(
            f"data set {task.name!r} has the classes of the distilled set in another order, so that labels mean other "
            "classes: give --data the data set that it was made from"
        )
    exchanged = exchanged_classes(recorded_facts(metadata), task)
    if exchanged is not None:
        raise ArtefactError(
            f"the distilled set was made from {_source(metadata)}, and now the data is {task.source!r}, {exchanged}: rename "
            "them back, or give --data the data set that it was made from"
        )


def check_data(metadata: Mapping[str, Any], task: Task, is_named: bool) -> str | None:
    """Check that `task` is the data that a distilled set with this metadata was made from.

    Class names are compared in their one form (`class_names.py`).

    Args:
        is_named: the user names the data, which may then have other images.

    Returns:
        What to tell the user where the images are other ones.

    Raises:
        ArtefactError: labels mean something else, pixels are scaled differently, or other images that were not asked for.
    """
    check_labels(metadata, task)
    for name in ("class_names", "image_size", "channels", "mean", "std"):
        value = getattr(task, name)
        value = list(value) if isinstance(value, tuple) else value
        recorded = metadata.get(name, value)
        if recorded != value and not _are_alike(name, recorded, value):
            raise ArtefactError(
                f"the distilled set has {name} {one_line(str(recorded))}, data set {task.name!r} has "
                f"{one_line(str(value))}: give --data the data set that it was made from"
            )
    found = data_difference(recorded_facts(metadata), task)
    if found is None:
        return None
    if not is_named:
        raise ArtefactError(
            f"the distilled set was made from {_source(metadata)}, and now the data is {task.source!r}, {found}: say where "
            "the former is with -D root=PATH, or evaluate on this one by naming it with --data"
        )
    return f"{task.source} is other data than the set was made from, {found}"


def _source(metadata: Mapping[str, Any]) -> str:
    return repr(recorded_facts(metadata).get("source", "other data"))


def _compared(task: Task) -> list[str]:
    return [comparable(name) for name in task.class_names]


def _are_alike(name: str, recorded: Any, value: Any) -> bool:
    if name == "class_names":
        return [comparable(str(one)) for one in recorded] == [comparable(one) for one in value]
    if name not in ("mean", "std"):
        return False
    return len(recorded) == len(value) and all(abs(a - b) <= 1e-4 for a, b in zip(recorded, value, strict=True))

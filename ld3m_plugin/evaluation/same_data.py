"""Whether a distilled set and a data set fit: labels mean the same, pixels are scaled alike, images are those it is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ld3m_plugin.artefact.reading import is_whitened
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
            "classes: give the data set that it was made from (--data)"
        )
    exchanged = exchanged_classes(recorded_facts(metadata), task)
    if exchanged is not None:
        raise ArtefactError(
            f"the distilled set was made from {_source(metadata)}, and now the data is {task.source!r}, {exchanged}: rename "
            "them back, or give the data set that it was made from (--data)"
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
    _check_facts(metadata, task, ("class_names", "image_size", "channels"))
    _check_whitening(metadata, task)
    found = data_difference(recorded_facts(metadata), task)
    scaled_alike = all(_fits(metadata, task, name) for name in ("mean", "std"))
    if found is not None and not is_named:
        other = ", or evaluate on this one by naming it with --data" if scaled_alike else ""
        raise ArtefactError(
            f"the distilled set was made from {_source(metadata)}, and now the data is {task.source!r}, {found}: say where "
            f"the former is with -D root=PATH{other}"
        )
    _check_facts(metadata, task, ("mean", "std"))
    return None if found is None else f"{task.source} is other data than the set was made from, {found}"


def _check_whitening(metadata: Mapping[str, Any], task: Task) -> None:
    whitened = is_whitened(metadata)
    if whitened != (task.whitening is not None):
        kinds = ("whitened (ZCA)", "not whitened") if whitened else ("not whitened", "whitened (ZCA)")
        raise ArtefactError(
            f"images of the distilled set are {kinds[0]}, those of data set {task.name!r} are {kinds[1]}: give "
            f"-D zca={str(whitened).lower()}"
        )


def _check_facts(metadata: Mapping[str, Any], task: Task, names: Iterable[str]) -> None:
    for name in names:
        if not _fits(metadata, task, name):
            raise ArtefactError(
                f"the distilled set has {name} {one_line(str(metadata[name]))}, data set {task.name!r} has "
                f"{one_line(str(_plain(task, name)))}: give the data set that it was made from (--data)"
            )


def _fits(metadata: Mapping[str, Any], task: Task, name: str) -> bool:
    value = _plain(task, name)
    recorded = metadata.get(name, value)
    return bool(recorded == value or _are_alike(name, recorded, value))


def _plain(task: Task, name: str) -> Any:
    value = getattr(task, name)
    return list(value) if isinstance(value, tuple) else value


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

"""`load_task`: read a data set by name."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.data.selection import SELECT_ON, for_selection, full_options, own_options
from ld3m_plugin.data.task_checks import checked_task
from ld3m_plugin.data.zca import ZCA, whitened
from ld3m_plugin.errors import DataError, PluginLoadError, one_line
from ld3m_plugin.options import Options, Place, build, places, recorded
from ld3m_plugin.registry import Registry, blaming, current_registry, described, use_registry
from ld3m_plugin.task import DataOptions, Task

#: Of places that no program of this user can look at: no rights, a name too long, links in a circle.
_CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)


def load_task(
    name: str, *, device: torch.device | str = "cpu", registry: Registry | None = None, **options: Any
) -> Task:
    """Read a data set.

    Args:
        name: `NAME` or `NAME:ARGUMENT`, for example `fashion-mnist`, `imagefolder:PATH` or `imagenet:woof`.
        device: device of the images that the task returns.
        registry: where names are looked up; default: those of `use_registry`, else the installed plugins.
        **options: options of that data set (`ld3m plugins show NAME`), for example `image_size=64`.

    Raises:
        UsageError: the data set is unknown, or an option is unknown or out of range.
        DataError: the data is missing, incomplete or damaged; the message names the path.
    """
    base, _, argument = name.partition(":")
    with use_registry(registry):
        factory = current_registry().resolve("dataset", base)
        settings = build(full_options(factory), options, f"data set {base!r}", "-D")
        with blaming("dataset", base, f"reading {name!r}"), _closed_places():
            task = factory(argument, own_options(settings, factory))
        if not isinstance(task, Task):
            raise PluginLoadError(f"{described('dataset', base)} gave a {type(task).__name__}, not a Task")
        with blaming("dataset", base, "counts"):
            task = checked_task(base, task)
        if getattr(settings, SELECT_ON) == "validation":
            task = for_selection(task)
        if getattr(settings, ZCA):  # after the choice: what is held out does not take part in the fit
            task = whitened(task)
        task = task.to(device)
    return replace(task, read_with=settings.model_dump(mode="json", exclude_defaults=True))


@contextmanager
def _closed_places() -> Iterator[None]:
    """Let one line name a place that the system does not let this user look at; no data set is to blame for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CLOSED:
            raise
        place = one_line(str(error.filename), 1000)
        raise DataError(f"cannot read {place}: {error.strerror}; make it readable, or give another place") from error


def data_options(name: str, options: Mapping[str, Any]) -> Options:
    """Check options for the data set `name` (NAME or NAME:ARGUMENT) without reading it.

    Raises:
        UsageError: as `load_task`.
    """
    base = name.partition(":")[0]
    return build(data_model(name), options, f"data set {base!r}", "-D")


def absolute_data(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Compose `name` and `options` of a data set for a record that is read from another folder: complete, paths absolute.

    Raises:
        UsageError: as `load_task`.
    """
    (base, _, argument), made = name.partition(":"), recorded(data_options(name, options))
    if made[SELECT_ON] == "test":  # records of older versions do not have it, and are of the same runs
        del made[SELECT_ON]
    if not made[ZCA]:
        del made[ZCA]
    place = argument_place(name)
    # Below a root, the argument is a part of the data set.
    if place is not None and argument and made.get("root") is None:
        name = f"{base}:{place.absolute(Path(argument))}"
    return {"name": name, "options": made}


def moved_data(name: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Compose name and options of recorded data with the options `given`; a root replaces a recorded path in the name."""
    base, _, argument = name.partition(":")
    replaced = given.get("root") is not None and options.get("root") is None and argument
    options = {**options, **given}
    if replaced and argument_place(name) is not None:
        name = f"{base}:{options.pop('root')}"
    return name, options


def argument_place(name: str) -> Place | None:
    """Mark of the data set `name` (NAME or NAME:ARGUMENT), if its argument says where the data lies."""
    place = getattr(current_registry().resolve("dataset", name.partition(":")[0]), "argument", None)
    return place if isinstance(place, Place) else None


def without_places(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What of a data set's settings identifies it: its name and options without those that say where it lies."""
    base = name.partition(":")[0]
    hidden = places(data_model(name))
    return {
        "name": name if argument_place(name) is None else base,
        "options": {key: value for key, value in options.items() if key not in hidden},
    }


def recorded_options(name: str, options: Mapping[str, Any], *, by_hand: bool = False) -> dict[str, Any]:
    """Options from a record, without those that version 0.1 wrote for every data set and this one never used.

    Args:
        by_hand: somebody may have written the record: keep values that are not the defaults, which are then refused.
    """
    model, written = data_model(name), DataOptions().model_dump(mode="json")
    unused = {
        key for key in written if key not in model.model_fields and not (by_hand and options.get(key) != written[key])
    }
    return {key: value for key, value in options.items() if key not in unused}


def data_model(name: str) -> type[Options]:
    """The options of the data set `name` (NAME or NAME:ARGUMENT)."""
    return full_options(current_registry().resolve("dataset", name.partition(":")[0]))

"""`load_task`: read a data set by name."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ld3m_plugin.data.data_settings import SELECT_ON, ZCA, full_options, own_options
from ld3m_plugin.data.selection import for_selection
from ld3m_plugin.data.task_checks import checked_task
from ld3m_plugin.data.zca import whitened
from ld3m_plugin.errors import DataError, PluginLoadError, one_line
from ld3m_plugin.options import build, options_model
from ld3m_plugin.registry import Registry, blaming, current_registry, described, use_registry
from ld3m_plugin.task import Task

_log = logging.getLogger(__name__)

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
        own = options_model(factory)
        settings = build(full_options(own), options, f"data set {base!r}", "-D")
        with blaming("dataset", base, f"reading {name!r}"), _closed_places():
            task = factory(argument, own_options(settings, own))
        if not isinstance(task, Task):
            raise PluginLoadError(f"{described('dataset', base)} gave a {type(task).__name__}, not a Task")
        with blaming("dataset", base, "counts"):
            task = checked_task(base, task)
        if getattr(settings, SELECT_ON) == "validation":
            task = for_selection(task)
        if getattr(settings, ZCA):  # after the choice: what is held out does not take part in the fit
            task = whitened(task)
        task = task.to(device)
    _log.info("data: %s", task.source)
    for note in task.notes:
        _log.warning("%s", note)
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

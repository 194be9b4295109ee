"""`load_task`: from a data set's name to its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch

from ld3m_plugin.options import build
from ld3m_plugin.registry import current_registry
from ld3m_plugin.task import DataOptions, Task


class Resolver(Protocol):
    """What is asked of a registry of plugins."""

    def resolve(self, kind: str, name: str) -> Callable[[str, DataOptions], Task]:
        """The factory that was registered under `name`."""


def load_task(
    name: str, *, device: torch.device | str = "cpu", registry: Resolver | None = None, **options: Any
) -> Task:
    """Read a data set.

    Args:
        name: `NAME` or `NAME:ARGUMENT`, for example `fashion-mnist`, `imagefolder:PATH` or `imagenet:woof`.
        device: where images are wanted.
        registry: where names are looked up; default: those of `use_registry`, else the installed plugins.
        **options: fields of `DataOptions`, for example `image_size=64`.

    Raises:
        UsageError: an unknown data set, or an option that does not exist or is out of range.
        DataError: the data is not there, incomplete or damaged; the message names the path.
    """
    base, _, argument = name.partition(":")
    settings = build(DataOptions, options, f"data set {base!r}")
    factory = (registry or current_registry()).resolve("dataset", base)
    task: Task = factory(argument, settings).to(device)
    return replace(task, read_with=settings.model_dump(mode="json", exclude_defaults=True))

"""`load_task`: read a data set by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch

from ld3m_plugin.options import build
from ld3m_plugin.task import DataOptions, Task


class Resolver(Protocol):
    """The part of a plugin registry that `load_task` uses."""

    def resolve(self, kind: str, name: str) -> Callable[[str, DataOptions], Task]:
        """The factory registered under `name`."""


def load_task(
    name: str, *, device: torch.device | str = "cpu", registry: Resolver | None = None, **options: Any
) -> Task:
    """Read a data set.

    Args:
        name: `NAME` or `NAME:ARGUMENT`, for example `fashion-mnist`, `imagefolder:PATH` or `imagenet:woof`.
        device: device of the images that the task returns.
        registry: where names are looked up; default: the installed plugins.
        **options: fields of `DataOptions`, for example `image_size=64`.

    Raises:
        UsageError: the data set is unknown, or an option is unknown or out of range.
        DataError: the data is missing, incomplete or damaged; the message names the path.
    """
    base, _, argument = name.partition(":")
    settings = build(DataOptions, options, f"data set {base!r}")
    if registry is None:
        # Imported late: finding plugins imports every installed one.
        from ld3m_plugin.plugins import default_registry

        registry = default_registry()
    task = registry.resolve("dataset", base)(argument, settings).to(device)
    return replace(task, read_with=settings.model_dump(mode="json", exclude_defaults=True))

"""Which of the shipped priors `embedded` is for a task: the one that was trained on the task's data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ld3m_plugin.priors.prior_json import TRAINING

if TYPE_CHECKING:
    from ld3m_plugin.task import Task

#: The name that stands for the shipped prior that fits the data.
FITTING = "embedded"


def find_shipped(name: str, task: Task | None, shipped: Mapping[str, Path]) -> Path | None:
    """Find the folder of a shipped prior; None if there is none of that name.

    Args:
        task: with `embedded`, the prior that was trained on its data set is chosen; without a task, or if there is no such prior,
            it is the folder of the name itself.
        shipped: name -> folder.
    """
    if name == FITTING and task is not None:
        data = task.name.partition(":")[0]
        return next((folder for folder in shipped.values() if trained_on(folder) == data), shipped[name])
    return shipped.get(name)


def trained_on(folder: Path) -> str | None:
    """The data set, without its argument, that a prior of `ld3m prior train` was trained on; None for other priors."""
    file = folder / TRAINING
    if not file.is_file():
        return None
    return str(json.loads(file.read_text(encoding="utf-8"))["data"]).partition(":")[0]

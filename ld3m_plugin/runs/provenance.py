"""What a run was made with, as it wrote it down, and whether it still is: the data, a prior, experts."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.contracts import Task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.registry import Registry
from ld3m_plugin.storage import versions

#: The file of a run folder that records these facts, beside versions and the machine.
ENVIRONMENT = "environment.json"


def data_facts(task: Task) -> dict[str, Any]:
    """Where the data lies, its classes, and how many images each has for training and for testing."""
    test = list(task.test_images.counts()) if task.test_images is not None else None
    return {"source": task.source, "classes": list(task.class_names), "train": list(task.train.counts()), "test": test}


def check_same_data(folder: Path, task: Task) -> None:
    """Raise `ArtefactError` if the run in `folder` was made with other classes or another number of images than `task` has."""
    try:
        made_with = dict(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # the record is for people; a run without it can still go on
    now = data_facts(task)
    if any(made_with.get(key) != now[key] for key in ("classes", "train", "test")):  # where it lies may change
        raise ArtefactError(
            f"the run in {folder} was made with {made_with.get('source')!r}, and now the data is {task.source!r}, with other "
            "classes or another number of images: a run goes on with the same data only"
        )


def provenance(state: Distillation) -> dict[str, dict[str, str]]:
    """The facts of both backends by kind, once they are prepared."""
    return {"generator": state.generator.provenance(), "objective": state.objective.provenance()}


def check_recorded_provenance(folder: Path, state: Distillation) -> None:
    """Raise `ArtefactError` if a prior or experts were exchanged since the run in `folder` was started."""
    try:
        made_with = dict(json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))["provenance"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    check_same_provenance(folder, made_with, provenance(state))


def check_same_provenance(folder: Path, made_with: Mapping[str, Any], now: Mapping[str, Mapping[str, str]]) -> None:
    """Raise `ArtefactError` if a fact of a backend's `provenance()` is another than the run in `folder` was made with.

    Args:
        made_with: facts by kind, as the run recorded them; a kind that it did not record is taken to be the same.
        now: facts by kind.
    """
    for kind, facts in now.items():
        old = made_with.get(kind, facts)
        changed = [name for name in facts if old.get(name) != facts[name]] if isinstance(old, dict) else []
        if changed:
            name = changed[0]
            raise ArtefactError(
                f"the run in {folder} was made with {name} {old.get(name)} of its {kind}, and now it is {facts[name]}: put "
                "the former one back, or start a new run"
            )


def environment(device: torch.device, registry: Registry) -> dict[str, Any]:
    """What `environment.json` holds."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    plugins = [
        {
            "plugin": record.owner.plugin,
            "distribution": record.owner.distribution,
            "version": record.owner.version,
            "status": record.status,
        }
        for record in registry.records
    ]
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions(),
        "device": {"type": device.type, "name": name},
        "threads": torch.get_num_threads(),
        "plugins": plugins,
    }

"""Records of a run's data, priors, experts, versions and machine, which are compared when the run goes on.

Nothing in these records names a person or a machine.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.contracts import Task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.registry import current_registry
from ld3m_plugin.runs.folder import read_environment
from ld3m_plugin.storage import versions


def environment(state: Distillation) -> dict[str, Any]:
    """The content of `environment.json`."""
    device = state.task.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "data": data_facts(state.task),
        "provenance": provenance(state),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions(),
        "device": {"type": device.type, "name": name},
        "threads": torch.get_num_threads(),
        "plugins": [{**asdict(record.owner), "status": record.status} for record in current_registry().records],
    }


def metadata(state: Distillation) -> dict[str, Any]:
    """The content of the distilled set's `metadata.json`, without results."""
    config, task = state.config, state.task
    parts = {}
    for kind, facts in provenance(state).items():
        name, backend = getattr(config, kind).name, getattr(state, kind)
        owner, options = current_registry().find(kind, name).owner, backend.options.model_dump(mode="json")
        parts[kind] = {"name": name, "options": options, "distribution": str(owner), **facts}
    return {
        "data": {"name": task.name, "source": task.source},
        "class_names": list(task.class_names),
        "wordnet_ids": list(task.wordnet_ids),
        "image_size": task.image_size,
        "channels": task.channels,
        "mean": list(task.mean),
        "std": list(task.std),
        "value_range": "images are (pixels in [0, 1] - mean) / std, not clipped",
        "images_per_class": config.images_per_class,
        **parts,
        "learned": state.objective.learned(),
        "steps": state.iteration,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
    }


def data_facts(task: Task) -> dict[str, Any]:
    """Where the data lies, its classes, and how many images each has for training and for testing."""
    test = list(task.test_images.counts()) if task.test_images is not None else None
    return {"source": task.source, "classes": list(task.class_names), "train": list(task.train.counts()), "test": test}


def provenance(state: Distillation) -> dict[str, dict[str, str]]:
    """The facts of both backends by kind, once they are prepared."""
    return {"generator": state.generator.provenance(), "objective": state.objective.provenance()}


def check_same_origin(folder: Path, state: Distillation, made_with: Mapping[str, Any] | None = None) -> None:
    """Check that the run in `folder` was made with the data, the prior and the experts that `state` has.

    What the run did not record is taken to be the same.

    Args:
        made_with: facts by kind of backend, such as a finished run's metadata; default: those of `environment.json`.

    Raises:
        ArtefactError: other classes, another number of images, or another fact of a backend's `provenance()`.
    """
    recorded, now = read_environment(folder), data_facts(state.task)
    data = recorded.get("data")
    if isinstance(data, dict) and any(data.get(key) != now[key] for key in ("classes", "train", "test")):
        raise ArtefactError(  # the place may change
            f"the run in {folder} was made with {data.get('source')!r}, and now the data is {now['source']!r}, with other "
            "classes or another number of images: a run goes on with the same data only"
        )
    made_with = recorded.get("provenance") if made_with is None else made_with
    for kind, facts in provenance(state).items():
        old = made_with.get(kind, facts) if isinstance(made_with, Mapping) else facts
        changed = [name for name in facts if old.get(name) != facts[name]] if isinstance(old, dict) else []
        if changed:
            name = changed[0]
            raise ArtefactError(
                f"the run in {folder} was made with {name} {old.get(name)} of its {kind}, and now it is {facts[name]}: put "
                "the former one back, or start a new run"
            )

"""Records of a run's data, priors, experts, versions and machine, which are compared when the run goes on.

Beside paths of data and priors, nothing in these records names a person or a machine.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator, Latents, Objective, Task
from ld3m_plugin.data.identity import data_difference, data_facts, recorded_facts, sha256
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.options import places
from ld3m_plugin.registry import current_registry, use_registry
from ld3m_plugin.runs.folder import read_environment
from ld3m_plugin.storage import versions

_DIGEST = "_sha256"


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
    with use_registry(state.registry):
        made = start_metadata(state.config, state.task, state.generator, state.latents)
        objective = _described("objective", state.config.objective.name, state.objective)
    return {
        **made,
        "objective": objective,
        "learned": state.objective.learned(),
        "seen_networks": list(state.objective.networks()),
        "steps": state.iteration,
    }


def start_metadata(config: RunConfig, task: Task, generator: Generator, latents: Latents) -> dict[str, Any]:
    """The content of `metadata.json` for images as a generator has them before the first step: no objective has matched them."""
    return {
        "data": {"name": task.name, **{name: fact for name, fact in data_facts(task).items() if name != "classes"}},
        "class_names": list(task.class_names),
        "wordnet_ids": list(task.wordnet_ids),
        "image_size": task.image_size,
        "channels": task.channels,
        "mean": list(task.mean),
        "std": list(task.std),
        "value_range": f"images are (pixels in [0, 1] - mean) / std, {'then whitened, ' if task.whitening else ''}not clipped",
        "images_per_class": config.images_per_class,
        "start": generator.start(),
        "storage": storage(task, generator, latents),
        "generator": _described("generator", config.generator.name, generator),
        "steps": 0,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "versions": versions(),
    }


def _described(kind: str, name: str, backend: Generator | Objective) -> dict[str, Any]:
    """A backend by name, with its options, its distribution and its facts."""
    options, owner = backend.options.model_dump(mode="json"), current_registry().find(kind, name).owner
    return {"name": name, "options": options, "distribution": str(owner), **facts_of(backend)}


def storage(task: Task, generator: Generator, latents: Latents) -> dict[str, int]:
    """How much is stored: learned numbers per class, bytes of all latents as saved, of the fixed ones in them, and of the prior.

    Generators that differ in the first two are not on equal terms at equal images per class.
    """
    fixed = [latents[name].nbytes for name in latents if name not in latents.learned]
    learned = [latents[name] for name in latents.learned]
    return {
        "numbers_per_class": sum(tensor.numel() for tensor in learned) // task.num_classes,
        "latent_bytes": sum(tensor.nbytes for tensor in learned) + sum(fixed),
        "fixed_bytes": sum(fixed),
        "prior_bytes": generator.prior_bytes(),
    }


def provenance(state: Distillation) -> dict[str, dict[str, str]]:
    """The facts of both backends by kind, once they are prepared, with a digest of each file among their options."""
    return {"generator": facts_of(state.generator), "objective": facts_of(state.objective)}


def facts_of(backend: Generator | Objective) -> dict[str, str]:
    """The facts of one prepared backend, with a digest of each file among its options."""
    return {**_files(backend.options), **backend.provenance()}


def _files(options: BaseModel) -> dict[str, str]:
    """SHA-256 of the files that options name, such as a class map, and of what was given in place of a file; a backend's own
    facts say what folders hold."""
    found = {}
    for name, place in places(type(options)).items():
        path = getattr(options, name)
        if isinstance(path, Mapping) and place.is_path:
            found[f"{name}{_DIGEST}"] = sha256(path)
        if isinstance(path, Path) and path.expanduser().is_file():
            with path.expanduser().open("rb") as file:
                found[f"{name}{_DIGEST}"] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_same_origin(folder: Path, state: Distillation, made_with: Mapping[str, Any] | None = None) -> None:
    """Check that the run in `folder` was made with the data, the prior and the experts that `state` has.

    What the run did not record is taken to be the same.

    Args:
        made_with: facts by kind of backend, such as a finished run's metadata; default: those of `environment.json`.

    Raises:
        ArtefactError: other classes or images, or another fact of a backend's `provenance()`.
    """
    recorded = read_environment(folder)
    check_same_data(folder, recorded.get("data"), state.task)
    if made_with is not None:
        check_same_data(folder, recorded_facts(made_with), state.task)
    made_with = recorded.get("provenance") if made_with is None else made_with
    for kind, facts in provenance(state).items():
        old = made_with.get(kind) if isinstance(made_with, Mapping) else None
        files = [f"{option}{_DIGEST}" for option in places(type(getattr(state, kind).options))]
        name = _changed(old, facts, files) if isinstance(old, Mapping) else None
        if name is not None and isinstance(old, Mapping):
            raise ArtefactError(
                f"the run in {folder} was made with {name} {old.get(name)} of its {kind}, and now it is "
                f"{facts.get(name, 'not there')}: put the former one back, or start a new run"
            )


def check_same_data(folder: Path, recorded: Any, task: Task) -> None:
    """Check that `task` has the data of a record, an outcome of `data_facts`; raises `ArtefactError`."""
    found = data_difference(recorded, task)
    if found is not None:
        raise ArtefactError(
            f"the run in {folder} was made with {recorded.get('source')!r}, and now the data is {task.source!r}, {found}: a run "
            "goes on with the same data only; put it back, or name its place with -D root=PATH or --data NAME:PATH"
        )


def _changed(old: Mapping[str, Any], new: Mapping[str, str], files: Iterable[str]) -> str | None:
    """The first fact that differs, or is among `files` and not there any more.

    A digest says what lies at a place: other facts that begin with its name, and paths, may change.
    """
    gone = next((name for name in files if name in old and name not in new), None)
    if gone is not None:
        return gone
    names = [name for name in new if name in old]
    digested = {name.removesuffix(_DIGEST) for name in names if name.endswith(_DIGEST)}
    return next((name for name in names if old[name] != new[name] and not _says_where(name, new, digested)), None)


def _says_where(name: str, facts: Mapping[str, str], digested: Collection[str]) -> bool:
    """Whether a fact is of a place, so that a run may go on with another one."""
    if name.endswith(_DIGEST):
        return False
    return Path(str(facts[name])).is_absolute() or any(f"{name}_".startswith(f"{place}_") for place in digested)

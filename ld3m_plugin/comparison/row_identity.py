"""The identity of a row: a digest of everything that decides its bits, and of nothing else.

Paths, the device and the output do not count. Data, priors and experts count by digest: the same comparison has the same rows
wherever these lie. The code's version is recorded beside a row and is no part of its identity.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.backends import create
from ld3m_plugin.comparison.grid import GridConfig
from ld3m_plugin.comparison.points import Point
from ld3m_plugin.config import RunConfig, decisive
from ld3m_plugin.contracts import Generator, Objective, Task
from ld3m_plugin.data.identity import sha256, task_digest
from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.hookspecs import PROJECT
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs.provenance import facts_of
from ld3m_plugin.storage import versions


@dataclass(frozen=True)
class Row:
    """A point with its identity.

    Attributes:
        id: 16 hexadecimal digits.
        asked: images per class that were asked for; its own may be others with `equal: storage`.
        start: what its latents start from, for the table.
        problem: why it cannot be made now, such as experts that are missing; "" if nothing is known to stop it.
    """

    point: Point
    id: str
    asked: int
    start: str = ""
    problem: str = ""


class Identities:
    """Reads each data set, prior and store of experts of a grid once, and gives every point its identity."""

    def __init__(self, grid: GridConfig) -> None:
        self._grid = grid
        self._tasks: dict[str, Task] = {}
        self._facts: dict[str, tuple[Any, str]] = {}
        self._generators: dict[str, Generator] = {}

    def row(self, point: Point) -> Row:
        """The row of a point; with `equal: storage`, its images per class are chosen here.

        Raises:
            HostError: its data cannot be read.
        """
        config = point.config
        task = self._task(config)
        facts: dict[str, Any] = {"data": task_digest(task), "threads": self._grid.threads}
        if point.kind == "random real":
            return Row(point, _id({**facts, "settings": real_settings(config)}), config.images_per_class, "real images")
        start, problem = "", ""
        try:
            generator = self._generator(config, task)
        except HostError as error:
            problem, facts["generator"] = str(error), "not there"  # no message: it may name a path
        else:
            start, facts["generator"] = generator.start(), facts_of(generator)
            if self._grid.equal == "storage":
                point = replace(point, config=with_equal_storage(config, generator, task))
        if point.kind == "start":
            settings = {**real_settings(config), "generator": decisive(config)["generator"]}
            return Row(point, _id({**facts, "settings": settings}), config.images_per_class, start, problem)
        facts["objective"], unprepared = self._objective(config, task)
        row_id = _id({**facts, "settings": run_settings(point.config)})
        return Row(point, row_id, config.images_per_class, start, problem or unprepared)

    def _task(self, config: RunConfig) -> Task:
        key = repr(config.data)
        if key not in self._tasks:
            self._tasks[key] = load_task(config.data.name, **config.data.options)
        return self._tasks[key]

    def _generator(self, config: RunConfig, task: Task) -> Generator:
        key = repr((config.generator, config.data))
        if key not in self._generators:
            made: Generator = create("generator", config.generator.name, config.generator.options)
            made.prepare(task.for_training())
            self._generators[key] = made
        return self._generators[key]

    def _objective(self, config: RunConfig, task: Task) -> tuple[Any, str]:
        """What an objective says of its experts and their like, and why it cannot be prepared."""
        key = repr((config.objective, config.data))
        if key not in self._facts:
            made: Objective = create("objective", config.objective.name, config.objective.options)
            self._facts[key] = ({}, "")
            # Others have nothing to say, and preparing takes time.
            if type(made).provenance is not Objective.provenance:
                try:
                    made.prepare(task.for_training(), torch.arange(task.num_classes), stream(0, "objective"))
                    self._facts[key] = (facts_of(made), "")
                except HostError as error:
                    self._facts[key] = ("not there", str(error))
        return self._facts[key]


def with_equal_storage(config: RunConfig, generator: Generator, task: Task) -> RunConfig:
    """As many images per class as fit the learned numbers of raw pixels at the configured images per class.

    Raises:
        UsageError: not even one image fits.
    """
    latents = generator.initial_latents(task.for_training(), torch.zeros(1, dtype=torch.long), stream(0, "latents"))
    per_latent = sum(latents[name].numel() for name in latents.learned)
    numbers = config.images_per_class * task.channels * task.image_size**2
    images = numbers // per_latent * generator.images_per_latent
    if not images:
        raise UsageError(
            f"{config.generator.name} learns {per_latent} numbers for one latent, and {config.images_per_class} images of pixels "
            f"have {numbers}: give a larger --ipc, or leave out --equal storage"
        )
    return config.model_copy(update={"images_per_class": images})


def run_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the images of a finished run and their accuracies, as plain data, without places."""
    evaluation = config.evaluation.model_dump(mode="json", exclude={"random_real"})
    time = {} if config.seconds is None else {"seconds": config.seconds}
    return {**decisive(config), "steps": config.steps, **time, "evaluation": evaluation}


def real_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the accuracies of random real images, as plain data, without places."""
    kept = config.model_dump(mode="json", include={"images_per_class", "seed"})
    evaluation = config.evaluation.model_dump(mode="json", exclude={"random_real", "every", "final"})
    return {**kept, "data": decisive(config)["data"], "evaluation": evaluation}


def _id(facts: dict[str, Any]) -> str:
    return sha256(facts)[:16]


@cache
def code_version() -> dict[str, Any]:
    """Versions of the packages that decide a result, and a digest of this package's own sources."""
    digest = new_sha256()
    for name, path in sorted(_own_sources().items()):
        digest.update(name.encode() + path.read_bytes())
    return {"versions": versions(), "sources_sha256": digest.hexdigest()}


def _own_sources() -> dict[str, Path]:
    """The Python files of this package and of its own plugins, by their place in it."""
    own = importlib.metadata.entry_points(group=PROJECT)
    modules = {point.module for point in own if point.module.split(".")[0] == PROJECT} | {PROJECT}
    found: dict[str, Path] = {}
    for module in modules:
        spec = importlib.util.find_spec(module)
        for root in map(Path, spec.submodule_search_locations or () if spec else ()):
            found |= {f"{module}/{path.relative_to(root).as_posix()}": path for path in root.rglob("*.py")}
    return found

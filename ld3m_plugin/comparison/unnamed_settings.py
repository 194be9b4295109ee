"""Settings of a grid without a choice: those that `config` gives without a name are for all that the grid compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ld3m_plugin.comparison.grid import GridConfig
from ld3m_plugin.config import RunConfig
from ld3m_plugin.registry import current_registry


def of_data(grid: GridConfig, name: str) -> list[tuple[str, Any]]:
    """The settings of one data set: options that the grid gives without a name are for all of its data sets."""
    given = grid.config.get("data", {})
    options = given.get("options", {}) if "name" not in given else {}
    return [("data.name", name), *((f"data.options.{key}", value) for key, value in options.items())]


def of_objective(grid: GridConfig, name: str, compared: Sequence[str]) -> list[tuple[str, Any]]:
    """The settings of one objective: options that the grid gives without a name are for all that have them, then its own.

    One that no compared objective has stays, and is refused.
    """
    given = grid.config.get("objective", {})
    paths = {f"objective.options.{key}": value for key, value in given.get("options", {}).items()}
    shared = {} if "name" in given else paths
    meant = [path for path in shared if applies(path, "", name) or not any(applies(path, "", n) for n in compared)]
    own = [(f"objective.options.{key}", value) for key, value in grid.objective_options.get(name, {}).items()]
    return [("objective.name", name), *((path, shared[path]) for path in meant), *own]


def of_all_protocols(grid: GridConfig) -> list[tuple[str, Any]]:
    """Networks, repeats and test images that the grid gives without a protocol: for all protocols that it varies."""
    given = grid.config.get("evaluation", {})
    kept = () if "protocol" in given else ("networks", "repeats", "test_per_class")
    return [(f"evaluation.{key}", given[key]) for key in kept if key in given]


def rates_of_all(grid: GridConfig, base: RunConfig, config: RunConfig) -> dict[str, float]:
    """The learning rates that presets and `config` give; of a varied optimiser, those that are given without an optimiser."""
    if config.optimizer.name == base.optimizer.name:
        return base.optimizer.learning_rates
    given = grid.config.get("optimizer", {})
    return {} if "name" in given else given.get("learning_rates", {})


def applies(path: str, generator: str, objective: str) -> bool:
    """Whether a varied setting means something to this pair: an option of a backend that has it, or any other setting."""
    kind, _, key = path.partition(".options.")
    name = {"generator": generator, "objective": objective}.get(kind)
    model = current_registry().options(kind, name) if name else None
    return name is None or model is None or key.split(".")[0] in model.model_fields

"""`get_generator` and `get_objective`: backends by name, with their options checked."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, cast

from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator, Objective, Tracker
from ld3m_plugin.errors import PluginLoadError
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.options import build
from ld3m_plugin.registry import Registry, current_registry, use_registry
from ld3m_plugin.task import DataOptions

_CONTRACTS: dict[str, type] = {"generator": Generator, "objective": Objective}


def create(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Build the backend `name` with `options`, validated by its own options model.

    Raises:
        UsageError: an unknown name, option or value, with the nearest known names.
        PluginLoadError: the plugin's factory does not give an object of the contract.
    """
    registry = current_registry()
    factory = registry.resolve(kind, name)
    model = getattr(factory, "Options", None)
    arguments = () if model is None else (build(model, options, f"{kind} {name!r}"),)
    backend = factory(*arguments) if model is not None else factory(**options)
    if not isinstance(backend, _CONTRACTS[kind]):
        owner = registry.find(kind, name).owner
        raise PluginLoadError(
            f"{kind} {name!r} ({owner}) is a {type(backend).__name__}, "
            f"not an ld3m_plugin.contracts.{_CONTRACTS[kind].__name__}: derive it from there"
        )
    return backend


def get_generator(name: str, *, registry: Registry | None = None, **options: Any) -> Generator:
    """The generator of that name; see `create` for the errors.

    >>> get_generator("pixel", init="noise").options.init
    'noise'
    """
    with use_registry(registry):
        return cast(Generator, create("generator", name, options))


def get_objective(name: str, *, registry: Registry | None = None, **options: Any) -> Objective:
    """The objective of that name; see `create` for the errors."""
    with use_registry(registry):
        return cast(Objective, create("objective", name, options))


def default_rates(generator: Generator) -> dict[str, float]:
    """Adam's default learning rates of a generator, by latent.

    Generators written for plugin API 0 take the objective's name. They get an empty one, and a `DeprecationWarning`.
    """
    if not inspect.signature(generator.learning_rates).parameters:
        return generator.learning_rates()
    warnings.warn(
        f"{type(generator).__name__}.learning_rates takes an argument: remove it, a generator does not know the objective. "
        "Support for it ends in version 1.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return generator.learning_rates("")  # type: ignore[call-arg]


def completed(config: RunConfig) -> RunConfig:
    """The configuration with every option of its backends and every learning rate written out, so that it repeats the run
    also when a later version changes a default. Every name in it is looked up: a misspelt one should not cost a run."""
    _check_names(config)
    generator = create("generator", config.generator.name, config.generator.options)
    objective = create("objective", config.objective.name, config.objective.options)
    defaults = default_rates(generator) if config.optimizer.name == "adam" else {}
    rates = {**defaults, **config.optimizer.learning_rates}
    parts = {
        kind: getattr(config, kind).model_copy(update={"options": backend.options.model_dump(mode="json")})
        for kind, backend in (("generator", generator), ("objective", objective))
    }
    data = build(DataOptions, config.data.options, f"data set {config.data.name!r}").model_dump(mode="json")
    protocol = get_protocol(config.evaluation.protocol)
    chosen = {
        "networks": config.evaluation.networks or protocol.networks,
        "repeats": config.evaluation.repeats or protocol.repeats,
    }
    return config.model_copy(
        update={
            **parts,
            "data": config.data.model_copy(update={"options": data}),
            "optimizer": config.optimizer.model_copy(update={"learning_rates": rates}),
            "evaluation": config.evaluation.model_copy(update=chosen),
        }
    )


def _check_names(config: RunConfig) -> None:
    registry = current_registry()
    protocol = get_protocol(config.evaluation.protocol)
    registry.find("dataset", config.data.name.partition(":")[0])
    for network in config.evaluation.networks or protocol.networks:
        registry.find("network", network)
    for tracker in config.trackers:
        registry.find("tracker", tracker)


def get_tracker(name: str) -> Tracker:
    """The tracker of that name."""
    return cast(Tracker, current_registry().resolve("tracker", name)())

"""`get_generator` and `get_objective`: backends by name, with their options checked."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ld3m_plugin.errors import PluginLoadError, UsageError, WrongResultError, one_line
from ld3m_plugin.options import Options, RatedOptions, build, options_model
from ld3m_plugin.registry import Registry, blaming, current_registry, described, use_registry

if TYPE_CHECKING:
    from ld3m_plugin.contracts import Generator, Objective, Tracker

_T = TypeVar("_T")
_Model = TypeVar("_Model", bound=Options)
_CONTRACTS = {"generator": "Generator", "objective": "Objective", "initialiser": "Initialiser"}
_FLAGS = {"generator": "-G", "objective": "-O"}


def create(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Build the backend `name` with `options`, validated by its own options model.

    Raises:
        UsageError: an unknown name, option or value, with the nearest known names.
        PluginLoadError: the plugin's factory does not give an object of the contract.
        PluginFailedError: it raised.
    """
    from ld3m_plugin import contracts  # late: it imports torch

    factory = current_registry().resolve(kind, name)
    model = getattr(factory, "Options", None)
    if model is not None and options_model(factory) is None:
        raise PluginLoadError(
            f"Options of {described(kind, name)} must be a class derived from ld3m_plugin.contracts.Options"
        )
    built = None if model is None else _checked(model, kind, name, options)
    with blaming(kind, name, "its constructor"):
        backend = factory(**options) if built is None else factory(built)
    conforming(kind, name, backend, getattr(contracts, _CONTRACTS[kind]))
    if not hasattr(backend, "options"):
        raise PluginLoadError(
            f"{described(kind, name)} has no options: its __init__ must call super().__init__(options)"
        )
    return backend


def complete_options(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Check options of a backend, and fill in its defaults. A model that was registered apart is all that is imported for it;
    else the backend is built, since it may have no model.

    Raises:
        UsageError, PluginLoadError, PluginFailedError: as `create`.
    """
    model = _declared(kind, name)
    return create(kind, name, options).options if model is None else _checked(model, kind, name, options)


def rates_of(name: str, options: Mapping[str, Any], objective: str) -> dict[str, float]:
    """Adam's default learning rates of the generator `name`, by latent; it is built unless its options say them.

    Args:
        objective: as for `default_rates`.
    """
    model = _declared("generator", name)
    if model is None or not issubclass(model, RatedOptions):
        return default_rates(create("generator", name, options), objective, name)
    with blaming("generator", name, "learning_rates"):
        return _checked_rates(_checked(model, "generator", name, options).learning_rates())


def _declared(kind: str, name: str) -> type[Options] | None:
    """The options model that was registered apart from the backend."""
    registry = current_registry()
    return registry.options(kind, name) if registry.find(kind, name).options is not None else None


def _checked(model: type[_Model], kind: str, name: str, options: Mapping[str, Any]) -> _Model:
    try:
        return build(model, options, f"{kind} {name!r}", _FLAGS.get(kind, ""))
    except UsageError as error:
        error.location = (kind, "options", *error.location)  # in a configuration
        raise


def conforming(kind: str, name: str, made: Any, contract: type[_T]) -> _T:
    """Return `made`, the object of a registered name, if it is an instance of `contract`.

    Raises:
        PluginLoadError: it is not; the message names the plugin and both types.
    """
    if isinstance(made, contract):
        return made
    owner = current_registry().find(kind, name).owner
    wanted = f"{_exporting(contract)}.{contract.__name__}"
    raise PluginLoadError(
        f"{kind} {name!r} ({owner}) is a {type(made).__name__}, not an {wanted}: derive it from there"
    )


def _exporting(contract: type) -> str:
    """The module that plugins import a contract from: its package, where that exports it."""
    package = contract.__module__.rpartition(".")[0]
    # Not any name: packages answer those that have moved, with a warning.
    exports_it = contract.__name__ in getattr(sys.modules.get(package), "__all__", ())
    return package if exports_it else contract.__module__


def get_generator(name: str, *, registry: Registry | None = None, **options: Any) -> Generator:
    """The generator of that name; see `create` for the errors.

    >>> get_generator("pixel", init="noise").options.init
    'noise'
    """
    with use_registry(registry):
        return cast("Generator", create("generator", name, options))


def get_objective(name: str, *, registry: Registry | None = None, **options: Any) -> Objective:
    """The objective of that name; see `create` for the errors."""
    with use_registry(registry):
        return cast("Objective", create("objective", name, options))


def default_rates(generator: Generator, objective: str, name: str = "") -> dict[str, float]:
    """Adam's default learning rates of a generator, by latent.

    Args:
        objective: its registered name, for generators of version 0.1 whose `learning_rates` takes it; they get a
            `DeprecationWarning`.
        name: the registered name of the generator, for messages.

    Raises:
        PluginFailedError: the generator raises, or gives something else than numbers above 0 by name.
    """
    with blaming("generator", name, "learning_rates") if name else nullcontext():
        return _checked_rates(_rates(generator, objective))


def _checked_rates(rates: object) -> dict[str, float]:
    if not isinstance(rates, Mapping) or not all(map(_is_rate, rates.items())):
        raise WrongResultError(f"learning_rates() gave {one_line(repr(rates))}, not numbers above 0 by latent")
    return dict(rates)


def _is_rate(item: tuple[object, object]) -> bool:
    latent, rate = item
    return isinstance(latent, str) and isinstance(rate, int | float) and 0 < rate < math.inf


def _rates(generator: Generator, objective: str) -> dict[str, float]:
    if not inspect.signature(generator.learning_rates).parameters:
        return generator.learning_rates()
    warnings.warn(
        f"{type(generator).__name__}.learning_rates takes an argument: remove it, a generator does not know the objective. "
        "Support for it ends in version 1.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return generator.learning_rates(objective)  # type: ignore[call-arg]


def get_tracker(name: str, **options: Any) -> Tracker:
    """The tracker of that name; one whose class takes no options is built without arguments."""
    checked = tracker_options(name, options)
    factory = current_registry().resolve("tracker", name)
    return cast("Tracker", factory(checked) if type(checked).model_fields else factory())


def tracker_options(name: str, options: Mapping[str, Any]) -> Options:
    """`options` validated by the tracker's own model; see `create` for the errors."""
    return build(current_registry().options("tracker", name) or Options, options, f"tracker {name!r}")

"""`ld3m plugins --check`: import and build everything that is registered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ld3m_plugin.augmentation import Operation
from ld3m_plugin.backends import conforming, create, get_tracker
from ld3m_plugin.cli.command_loading import load_command
from ld3m_plugin.contracts import Launcher, Tracker
from ld3m_plugin.errors import HostError, PluginLoadError, UsageError
from ld3m_plugin.evaluation import get_protocol
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.options import build
from ld3m_plugin.priors.service import get_prior_kind
from ld3m_plugin.registry import Backend, Registry, blaming, current_registry

#: A network is tried at this shape; one that refuses it by an error for the user is not at fault.
_SHAPE: dict[str, Any] = {"channels": 3, "image_size": 32, "num_classes": 10}


def faults(registry: Registry) -> dict[tuple[str, str], str]:
    """Import everything that is registered, and build it where its options have defaults.

    Returns:
        What is wrong, in one line, by kind and name; nothing for those that work.
    """
    found = {(backend.kind, backend.name): _fault(backend) for backend in registry.backends()}
    return {key: fault for key, fault in found.items() if fault}


def _fault(backend: Backend) -> str:
    try:
        factory = current_registry().resolve(backend.kind, backend.name)
        with blaming(backend.kind, backend.name, "its check"):
            _CHECKS[backend.kind](backend.name, factory)
    except HostError as error:
        return str(error)
    return ""


def _built(kind: str) -> Callable[[str, Any], None]:
    """A check that builds a backend with the defaults of its options."""

    def check(name: str, factory: Any) -> None:
        if inspect.isabstract(factory):
            raise PluginLoadError(f"{kind} {name!r} lacks {', '.join(sorted(factory.__abstractmethods__))}")
        try:
            create(kind, name, {})
        except UsageError:
            return  # an option without a default is asked for

    return check


def _dataset(name: str, factory: Any) -> None:
    try:
        inspect.signature(factory).bind("", None)
    except TypeError as error:
        raise PluginLoadError(f"data set {name!r} is called with (argument, options): {error}") from error


def _network(name: str, _: Any) -> None:
    try:
        get_network(name, **_SHAPE)
    except UsageError:
        return


def _tracker(name: str, _: Any) -> None:
    try:
        conforming("tracker", name, get_tracker(name), Tracker)  # type: ignore[type-abstract]  # an instance of a subclass
    except UsageError:
        return


def _launcher(name: str, factory: Any) -> None:
    try:
        options = build(factory.Options, {}, f"launcher {name!r}")
    except UsageError:
        return
    conforming("launcher", name, factory(options), Launcher)  # type: ignore[type-abstract]


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **{kind: _built(kind) for kind in ("generator", "objective", "initialiser")},
    "dataset": _dataset,
    "network": _network,
    "augmentation": lambda name, factory: conforming("augmentation", name, factory(), Operation),
    "protocol": lambda name, _: get_protocol(name),
    "tracker": _tracker,
    "prior": lambda name, _: get_prior_kind(name),
    "launcher": _launcher,
    "command": lambda name, _: load_command(name),
}

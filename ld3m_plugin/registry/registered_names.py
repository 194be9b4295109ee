"""Registered names: who registered what, and what went wrong on the way."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ld3m_plugin.errors import DuplicateBackendError, PluginLoadError, UnknownBackendError, nearest, one_line

if TYPE_CHECKING:
    from ld3m_plugin.options import Options

HOST_DISTRIBUTION = "ld3m-plugin"
_ANY_NAME = (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), "'-', '_' and '.'")
# A strategy joins names of augmentations by `_`, so that they have none themselves.
_VALID_NAME = {"augmentation": (re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*"), "'-' and '.'")}
KINDS = (
    "generator",
    "objective",
    "initialiser",
    "dataset",
    "network",
    "augmentation",
    "protocol",
    "tracker",
    "prior",
    "launcher",
    "command",
)


@dataclass(frozen=True)
class Owner:
    """Which plugin of which distribution."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution} {self.version}"

    @property
    def is_host(self) -> bool:
        """Whether this is one of the built-ins."""
        return canonical(self.distribution) == HOST_DISTRIBUTION


@dataclass(frozen=True)
class Backend:
    """One registered name.

    Attributes:
        factory: a callable, or the import path of one.
        options: the import path of its options model, where that was registered apart.
    """

    kind: str
    name: str
    factory: Any
    summary: str
    owner: Owner
    options: str | None = None


@dataclass
class PluginRecord:
    """One plugin, and its problems."""

    owner: Owner
    problems: list[str] = field(default_factory=list)
    has_names: bool = False

    @property
    def status(self) -> str:
        """`ok`, `failed: ` and why, or `incomplete: ` and what is wrong while other names of it are registered."""
        if not self.problems:
            return "ok"
        return ("incomplete: " if self.has_names else "failed: ") + "; ".join(self.problems)


class Registry:
    """Every backend by kind and name, and what went wrong on the way."""

    def __init__(self) -> None:
        self.records: list[PluginRecord] = []
        self._backends: dict[tuple[str, str], Backend] = {}
        self._contested: dict[tuple[str, str], list[Owner]] = {}

    def add(self, backend: Backend) -> None:
        """Register one backend.

        A built-in keeps its name. Between two third-party distributions nobody can say which was meant, so using the name
        is an error as well.

        Raises:
            DuplicateBackendError: the name is taken; both distributions are named.
        """
        valid, signs = _VALID_NAME.get(backend.kind, _ANY_NAME)
        if not valid.fullmatch(backend.name):
            raise PluginLoadError(f"{backend.kind} name {backend.name!r} is not valid: use letters, digits, {signs}")
        key = (backend.kind, backend.name)
        first = self._backends.setdefault(key, backend)
        if first is not backend:
            if not first.owner.is_host:
                self._contested.setdefault(key, [first.owner]).append(backend.owner)
            raise DuplicateBackendError(_taken_twice(backend.kind, backend.name, [first.owner, backend.owner]))

    def copy(self) -> Registry:
        """A registry with the same names, to which others can be added."""
        other = Registry()
        other.records, other._backends = list(self.records), dict(self._backends)
        other._contested = {key: list(owners) for key, owners in self._contested.items()}
        return other

    def backends(self, kind: str | None = None) -> list[Backend]:
        """All backends, or those of one kind, in the order of registration."""
        return [backend for backend in self._backends.values() if kind in (None, backend.kind)]

    def names(self, kind: str) -> list[str]:
        """The registered names of one kind."""
        return [backend.name for backend in self.backends(kind)]

    def find(self, kind: str, name: str) -> Backend:
        """The backend of that name.

        Raises:
            UnknownBackendError: with the nearest known names and the plugins that failed to load.
            DuplicateBackendError: two distributions claim the name.
        """
        key = (kind, name)
        if key in self._contested:
            raise DuplicateBackendError(
                _taken_twice(kind, name, self._contested[key]) + "; uninstall one, or choose with LD3M_PLUGINS"
            )
        if key not in self._backends:
            failed = "".join(f"; {record.owner} {record.status}" for record in self.records if record.problems)
            raise UnknownBackendError(
                f"unknown {kind} {one_line(repr(name))}: {nearest(name, self.names(kind))}{failed}"
            )
        return self._backends[key]

    def resolve(self, kind: str, name: str) -> Any:
        """The factory of that name, imported if it was registered as a string.

        Raises:
            PluginLoadError: the string does not import.
        """
        backend = self.find(kind, name)
        factory = _imported(backend, backend.factory) if isinstance(backend.factory, str) else backend.factory
        if backend.options is not None:
            _check_declared(backend, factory, self.options(kind, name))
        return factory

    def options(self, kind: str, name: str) -> type[Options] | None:
        """The options model of that name, or None where the factory does not say; one registered apart is imported alone.

        Raises:
            PluginLoadError: the factory or the model does not import, or it is no `Options`.
        """
        from ld3m_plugin.options import Options, options_model  # late: `ld3m --help` needs no pydantic

        backend = self.find(kind, name)
        if backend.options is None:
            return options_model(self.resolve(kind, name))
        model = _imported(backend, backend.options)
        if not (isinstance(model, type) and issubclass(model, Options)):
            raise PluginLoadError(f"{kind} {name!r} ({backend.owner}): {backend.options} is no class of Options")
        return model


def _imported(backend: Backend, path: str) -> Any:
    """The object at `package.module:name`."""
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a stranger's module may raise anything
        raise PluginLoadError(
            f"{backend.kind} {backend.name!r} ({backend.owner}) does not import: {reason(error)}"
        ) from error


def _check_declared(backend: Backend, factory: Any, declared: type[Options] | None) -> None:
    """Raise `PluginLoadError` if a factory takes other options than were registered apart for it."""
    taken = getattr(factory, "Options", None)
    if taken is not declared:
        raise PluginLoadError(
            f"{backend.kind} {backend.name!r} ({backend.owner}) is registered with the options {backend.options}, and takes "
            f"{getattr(taken, '__qualname__', taken)}: name the same in both"
        )


def canonical(name: str) -> str:
    """A distribution's name in the one form that all its spellings have (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _taken_twice(kind: str, name: str, owners: list[Owner]) -> str:
    return f"{kind} {name!r} is registered by " + " and by ".join(str(owner) for owner in owners)


def reason(error: BaseException) -> str:
    """Type and message of what a plugin raised, in one line."""
    text = one_line(str(error), 2000)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

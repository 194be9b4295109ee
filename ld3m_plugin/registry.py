"""Finding plugins, and knowing who registered what.

Plugins are the entry points of the group `ld3m_plugin`, the built-ins among them. They are loaded in a fixed order, the
host's own distribution first, each on its own: a plugin that does not import, raises, or misspells a hook leaves a
`PluginRecord` that says so, and all others go on. (pluggy's own loader would skip an entry point whose name is taken in
silence, and would end at the first one that does not import.)

`LD3M_PLUGINS=a,b` loads only these third-party plugins (by distribution or entry-point name), `LD3M_PLUGINS=` none.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from ld3m_plugin import hookspecs
from ld3m_plugin.errors import (
    DuplicateBackendError,
    HostError,
    PluginFailedError,
    PluginLoadError,
    UnknownBackendError,
    WrongResultError,
    is_of_the_machine,
    nearest,
    one_line,
    place_in_plugin,
)

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
_HOOK_OF_KIND = {kind: f"register_{kind}s" for kind in KINDS}


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
        return _canonical(self.distribution) == HOST_DISTRIBUTION


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


def build_registry(found: Iterable[EntryPoint] | None = None, environ: Mapping[str, str] | None = None) -> Registry:
    """Load plugins into a new registry.

    Args:
        found: entry points to load; default: all installed ones of the group.
        environ: where `LD3M_PLUGINS` is looked up; default: the process's environment.
    """
    registry = Registry()
    points = list(entry_points(group=hookspecs.PROJECT) if found is None else found)
    points = _chosen(points, (os.environ if environ is None else environ).get("LD3M_PLUGINS"), registry)
    for point in sorted(points, key=lambda p: (not _owner(p).is_host, _owner(p).distribution, p.name)):
        record = PluginRecord(_owner(point))
        registry.records.append(record)
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # a stranger's module may raise anything, also a script's exit
            record.problems.append(f"does not import: {reason(error)}")
            continue
        _register_plugin(registry, record, plugin)
    return registry


@cache
def default_registry() -> Registry:
    """The registry of what is installed, loaded once a process."""
    return build_registry()


_active: ContextVar[Registry | None] = ContextVar("ld3m_plugin_registry", default=None)


def current_registry() -> Registry:
    """The registry that names are looked up in: that of the innermost `use_registry`, else what is installed."""
    return _active.get() or default_registry()


@contextmanager
def use_registry(registry: Registry | None) -> Iterator[Registry]:
    """Look up all names in `registry` inside the block; None changes nothing.

    >>> with use_registry(Registry()) as registry:
    ...     current_registry() is registry
    True
    """
    token = _active.set(registry or _active.get())
    try:
        yield current_registry()
    finally:
        _active.reset(token)


@contextmanager
def blaming(kind: str, name: str, method: str) -> Iterator[None]:
    """Let what a plugin raises in the block become one line that names it.

    A `HostError` stays as it is: its message is for the user. So do the ends of memory and disk.

    Args:
        method: the method, and when, such as "match at step 3".

    Raises:
        PluginFailedError: from what was raised, with the file and line of the plugin's own code.
    """
    try:
        yield
    except WrongResultError as error:
        raise PluginFailedError(f"{described(kind, name)}: {error}") from None
    except HostError:
        raise
    except Exception as error:  # a stranger's code may raise anything
        if is_of_the_machine(error):
            raise
        raise PluginFailedError(
            f"{described(kind, name)} failed in {method}: {reason(error)}{place_in_plugin(error)}"
        ) from error


def described(kind: str, name: str) -> str:
    """A backend and the distribution that it comes from, for a message."""
    owner = current_registry().find(kind, name).owner
    return f"{kind} {name!r} of {owner.distribution} {owner.version}".rstrip()


def _register_plugin(registry: Registry, record: PluginRecord, plugin: object) -> None:
    problem = _version_problem(plugin)
    if problem:
        record.problems.append(problem)
        return
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.register(plugin)
    implemented = {caller.name: caller for caller in manager.get_hookcallers(plugin) or ()}
    for unknown in sorted(implemented.keys() - set(_HOOK_OF_KIND.values())):
        record.problems.append(f"there is no hook {unknown!r}; {nearest(unknown, _HOOK_OF_KIND.values())}")
    for kind, hook in _HOOK_OF_KIND.items():
        if hook in implemented:
            try:
                # One specification at a time: an error in one hook stops no other.
                manager.add_hookspecs(type("Spec", (), {hook: staticmethod(getattr(hookspecs, hook))}))
                implemented[hook](register=partial(_register, registry, record, kind))
            except pluggy.PluginValidationError:
                record.problems.append(f"{hook} must have one argument, named `register`")
            except (Exception, SystemExit) as error:
                record.problems.append(f"{hook} raised {reason(error)}")


def _version_problem(plugin: object) -> str | None:
    """Why a plugin that states an `api_version` cannot be loaded, or None."""
    wanted = getattr(plugin, "api_version", None)
    if wanted is None:
        return None
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        return f"api_version = {wanted!r} is not a whole number of at least 1"
    if wanted > hookspecs.API_VERSION:
        return f"needs plugin API {wanted}, this version has {hookspecs.API_VERSION}: update ld3m-plugin"
    return None


def _register(
    registry: Registry,
    record: PluginRecord,
    kind: str,
    name: str,
    factory: Any,
    summary: str = "",
    options: str | None = None,
) -> None:
    try:
        registry.add(Backend(kind, name, factory, summary, record.owner, options))
        record.has_names = True
    except (DuplicateBackendError, PluginLoadError) as error:
        # Recorded, not raised: the plugin's other names are still good.
        record.problems.append(str(error))


def _chosen(points: list[EntryPoint], wanted: str | None, registry: Registry) -> list[EntryPoint]:
    if wanted is None:
        return points
    names = {_canonical(name) for name in wanted.split(",") if name.strip()}
    kept = [p for p in points if _owner(p).is_host or names & {_canonical(p.name), _canonical(_owner(p).distribution)}]
    seen = {_canonical(name) for p in kept for name in (p.name, _owner(p).distribution)}
    for missing in sorted(names - seen):
        owner = Owner(missing, "(not installed)", "")
        registry.records.append(PluginRecord(owner, ["named in LD3M_PLUGINS and not installed"]))
    return kept


def _owner(point: EntryPoint) -> Owner:
    if point.dist is None:
        return Owner(point.name, "(unknown)", "")
    # A half-removed distribution has no metadata, and so no name: it must not end the loading of the others.
    metadata = point.dist.metadata
    return Owner(point.name, metadata["Name"] or "(unknown)", metadata["Version"] or "")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _taken_twice(kind: str, name: str, owners: list[Owner]) -> str:
    return f"{kind} {name!r} is registered by " + " and by ".join(str(owner) for owner in owners)


def reason(error: BaseException) -> str:
    """Type and message of what a plugin raised, in one line."""
    text = one_line(str(error), 2000)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

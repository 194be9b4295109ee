"""The registry that names are looked up in, and messages that name who registered something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from ld3m_plugin.errors import HostError, PluginFailedError, WrongResultError, is_of_the_machine, place_in_plugin
from ld3m_plugin.registry.loading import build_registry
from ld3m_plugin.registry.registered_names import Registry, reason


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

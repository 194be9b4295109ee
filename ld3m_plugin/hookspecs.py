"""The hooks a plugin can implement. Import `hookimpl` from `ld3m_plugin` and mark a function of the same name.

Each hook is called once, when a command first needs to know what is installed, and is handed a `register` callback:

    register(name, factory, summary="one line for `ld3m plugins`")

`name` is lower-case letters, digits, `-`, `_` or `.` (networks may have capitals); `factory` is a callable or, so that
listing plugins imports nothing heavy, a string `"package.module:Class"` that is imported when the backend is first used.
`options="package.module:Model"` names the options model in a module of its own, beside a factory that is a string: settings
are then checked, and a dry run ends, without importing the backend and torch. Without it the factory is imported for its
options.
A name that another distribution has registered for the same kind is refused, and both are named. Errors in one plugin
are recorded and shown by `ld3m plugins`; all others go on.
"""

from __future__ import annotations

from typing import Any, Protocol

import pluggy

PROJECT = "ld3m_plugin"

#: The version of the hooks and contracts. A plugin may state the one it needs as `api_version = 1` in its module.
API_VERSION = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """The callback a hook receives."""

    def __call__(self, name: str, factory: Any, summary: str = "", options: str | None = None) -> None: ...


@hookspec
def register_generators(register: Register) -> None:
    """Register `ld3m_plugin.contracts.Generator` classes: latents in, images out. Since 0.1."""


@hookspec
def register_objectives(register: Register) -> None:
    """Register `ld3m_plugin.contracts.Objective` classes: images in, gradient with respect to them out. Since 0.1."""


@hookspec
def register_datasets(register: Register) -> None:
    """Register callables `(argument, options) -> Task`; `--data NAME:ARGUMENT` calls them. Since 0.1.

    Options are those that `ld3m_plugin.contracts.takes` names, else a `DataOptions`.
    """


@hookspec
def register_networks(register: Register) -> None:
    """Register callables `(channels, image_size, num_classes, **settings) -> Network`. Since 0.1."""


@hookspec
def register_initialisers(register: Register) -> None:
    """Register `ld3m_plugin.contracts.Initialiser` classes: pictures that generators start from, and baselines. Since 0.2."""


@hookspec
def register_trackers(register: Register) -> None:
    """Register `ld3m_plugin.contracts.Tracker` classes, which receive every record of a run. Since 0.1."""


@hookspec
def register_priors(register: Register) -> None:
    """Register `ld3m_plugin.contracts.PriorKind` classes: families of pre-trained models. Since 0.1."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Register `ld3m_plugin.augmentation.Operation` classes, which strategies such as `color_flip` draw from. Since 0.2."""


@hookspec
def register_protocols(register: Register) -> None:
    """Register `ld3m_plugin.evaluation.Protocol` objects: named training recipes of evaluations. Since 0.2."""


@hookspec
def register_launchers(register: Register) -> None:
    """Register `ld3m_plugin.contracts.Launcher` classes: where the rows of a comparison run. Since 0.2."""


@hookspec
def register_commands(register: Register) -> None:
    """Register sub-commands of `ld3m`: a `typer.Typer`, or a function that typer makes a command of. Since 0.2."""

"""Values that the shell completes, and that help texts list: registered names, presets, and keys of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer

from ld3m_plugin.registry import current_registry

Candidates = list[tuple[str, str]]
#: The parameter that names a backend, and the part of the default preset that does where it is not given.
_PARTS = {"generator": "generator", "objective": "objective", "dataset": "data"}


def listed(kind: str) -> str:
    """Registered names of a kind, for a help text."""
    return ", ".join(current_registry().names(kind))


def names(kind: str, *, several: bool = False) -> Callable[[str], Candidates]:
    """Completion of a registered name; of the last one of several between commas."""

    def complete(incomplete: str) -> Candidates:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        found = [(backend.name, backend.summary) for backend in current_registry().backends(kind)]
        return [(before + comma + name, about) for name, about in found if name.startswith(last)]

    return complete


def presets(incomplete: str) -> Candidates:
    """Completion of a preset."""
    from ld3m_plugin.presets import load_preset, preset_names

    return [(name, load_preset(name).summary) for name in preset_names() if name.startswith(incomplete)]


def keys(kind: str) -> Callable[[typer.Context, str], Candidates]:
    """Completion of `KEY=` for options of the backend that the command line names, or of the default one."""

    def complete(ctx: typer.Context, incomplete: str) -> Candidates:
        name = _named(ctx, kind)
        return [(f"{key}=", about) for key, about in _options(kind, name) if f"{key}=".startswith(incomplete)]

    return complete


def _named(ctx: typer.Context, kind: str) -> str:
    from ld3m_plugin.config import RunConfig

    part = _PARTS[kind]
    given = ctx.params.get(part) or getattr(RunConfig(), part).name
    return str(given).partition(":")[0]


def _options(kind: str, name: str) -> Iterable[tuple[str, str]]:
    from ld3m_plugin.data.data_settings import full_options

    model: Any = current_registry().options(kind, name)
    model = full_options(model) if kind == "dataset" else model
    return [(key, field.description or "") for key, field in model.model_fields.items()] if model is not None else []

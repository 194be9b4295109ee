"""Presets: shipped configurations with their source. One YAML file each; folders make up the name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.plain_yaml import read_yaml

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """A part of a configuration, its purpose and the source of its numbers.

    Attributes:
        compare: settings of `ld3m compare` (`comparison.grid.GridConfig`), such as `generators`. A single run ignores them.
    """

    name: str
    summary: str
    source: str
    config: dict[str, Any]
    compare: dict[str, Any] = field(default_factory=dict)


def preset_names() -> list[str]:
    """List the names of all presets, such as `demo` or `glad-2023/pixel-dm`."""
    return sorted(str(path.relative_to(_FOLDER).with_suffix("")) for path in _FOLDER.rglob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read one preset.

    Raises:
        UsageError: there is no preset of that name.
    """
    if name not in preset_names():
        raise UsageError(f"unknown preset {name!r}: {nearest(name, preset_names())}")
    return Preset(name, **read_yaml(_FOLDER / f"{name}.yaml"))

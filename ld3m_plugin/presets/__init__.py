"""Presets: shipped configurations with their source. One YAML file each; folders make up the name."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import UsageError, nearest


@dataclass(frozen=True)
class Preset:
    """A part of a configuration, its purpose and the source of its numbers.

    Attributes:
        compare: settings of `ld3m compare`: `generators`, a list of names. A single run ignores them.
    """

    name: str
    summary: str
    source: str
    config: dict[str, Any]
    compare: dict[str, list[str]] = field(default_factory=dict)


def preset_names() -> list[str]:
    """List the names of all presets, such as `demo` or `glad-2023/pixel-dm`."""
    root = _folder()
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read one preset.

    Raises:
        UsageError: there is no preset of that name.
    """
    import yaml

    if name not in preset_names():
        raise UsageError(f"unknown preset {name!r}: {nearest(name, preset_names())}")
    content = yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8"))
    return Preset(name, **content)


def _folder() -> Path:
    return Path(str(files(__name__)))

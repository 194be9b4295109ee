"""Versions of the installed packages, for records."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_DECIDING_PACKAGES = (
    "ld3m-plugin",
    "torch",
    "torchvision",
    "kornia",
    "diffusers",
    "accelerate",
    "numpy",
    "safetensors",
    "pluggy",
    "pydantic",
)


def versions() -> dict[str, str]:
    """Versions of the installed packages that decide a result, by name."""
    found = {}
    for package in _DECIDING_PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found

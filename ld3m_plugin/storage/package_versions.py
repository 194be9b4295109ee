"""Packages: versions of the installed ones, for records, and those of an extra, which may be missing."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ld3m_plugin.errors import UsageError, one_line

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


def needed(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of a package that an extra of this distribution installs.

    Args:
        what: what needs it, for the message.

    Raises:
        UsageError: it is missing, or does not import; the message says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package, reason = module.partition(".")[0], f" ({one_line(str(error))})"
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        raise UsageError(
            f"{what} needs the package {package}{'' if missing else reason}: pip install 'ld3m-plugin[{extra}]'"
        ) from error

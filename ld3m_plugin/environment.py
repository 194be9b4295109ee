"""What a run ran on: versions, device, plugins. Nothing that names a person or a machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ld3m_plugin.registry import Registry

_PACKAGES = (
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
    """Versions of the packages that decide a result, those that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def environment(device: torch.device, registry: Registry) -> dict[str, Any]:
    """What `environment.json` holds."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    plugins = [
        {
            "plugin": record.owner.plugin,
            "distribution": record.owner.distribution,
            "version": record.owner.version,
            "status": record.status,
        }
        for record in registry.records
    ]
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions(),
        "device": {"type": device.type, "name": name},
        "threads": torch.get_num_threads(),
        "plugins": plugins,
    }

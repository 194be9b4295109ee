"""Finding plugins, and knowing who registered what."""

from __future__ import annotations

from ld3m_plugin.registry.active import blaming, current_registry, default_registry, described, use_registry
from ld3m_plugin.registry.loading import build_registry
from ld3m_plugin.registry.registered_names import (
    HOST_DISTRIBUTION,
    KINDS,
    Backend,
    Owner,
    PluginRecord,
    Registry,
    reason,
)

__all__ = [
    "HOST_DISTRIBUTION",
    "KINDS",
    "Backend",
    "Owner",
    "PluginRecord",
    "Registry",
    "blaming",
    "build_registry",
    "current_registry",
    "default_registry",
    "described",
    "reason",
    "use_registry",
]

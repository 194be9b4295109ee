"""Which settings decide the images, and their digest: by it a checkpoint knows its run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ld3m_plugin.config.schema import RunConfig
from ld3m_plugin.options import places

_FREE = {"steps", "seconds", "device", "checkpoint_every", "evaluation", "trackers", "render_batch"}

#: Settings that are younger than some checkpoints, and count only where they are not the default, which is what those had.
_YOUNGER = ("tf32",)


def digest(config: RunConfig) -> str:
    """A digest of the settings that decide a step (`decisive`); a checkpoint records it."""
    return _digest(decisive(config))


def former_digest(config: RunConfig) -> str:
    """The digest in checkpoints of version 0.1, which counts most paths as settings."""
    settings = config.model_dump(mode="json", exclude=_FREE | set(_YOUNGER))
    settings["data"]["options"].pop("root", None)
    return _digest(settings)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def decisive(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the images, as plain data.

    No place is among them (`options.places`): data and priors may move, and are compared by what they hold.

    Raises:
        UsageError: the name of a data set, a generator or an objective is unknown.
    """
    from ld3m_plugin.data.data_settings import without_places
    from ld3m_plugin.registry import current_registry

    at_default = {name for name in _YOUNGER if getattr(config, name) == RunConfig.model_fields[name].default}
    settings = config.model_dump(mode="json", exclude=_FREE | at_default)
    settings["data"] = without_places(config.data.name, settings["data"]["options"])
    for kind in ("generator", "objective"):
        model = current_registry().options(kind, settings[kind]["name"])
        for name in places(model) if model is not None else ():
            settings[kind]["options"].pop(name, None)
    return settings

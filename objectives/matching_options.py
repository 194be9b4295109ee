"""Options of the matching objectives: their networks, real images and augmentation. Without torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import Field, field_validator, model_validator

from ld3m_plugin.augmentation.strategy_names import FULL
from ld3m_plugin.options import Options


class NetworkOptions(Options):
    """A network and its settings, except those that the task decides."""

    read_later = frozenset({"network_settings"})

    network: str = Field("ConvNet", description="registered network that compares the images")
    network_settings: dict[str, Any] = Field(
        default_factory=dict, description="its settings, such as depth, width, norm (default: the network's own)"
    )

    @field_validator("network_settings")
    @classmethod
    def _leave_what_the_task_decides(cls, settings: dict[str, Any]) -> dict[str, Any]:
        check_settings(settings)
        return settings


class PoolOptions(Options):
    """The networks that images are matched with, and the settings of each."""

    read_later = frozenset({"network_settings"})

    network: str | dict[str, float] = Field(
        "ConvNet",
        description="registered network that compares the images; or several with weights, {ConvNet: 2, AlexNet: 1} or "
        "[ConvNet, AlexNet], of which each new network is drawn",
    )
    network_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="its settings, such as depth, width, norm (default: the network's own); for several networks by name, "
        "{ConvNet: {width: 64}}",
    )
    networks_at_once: int = Field(
        1, ge=1, description="different networks in each step, their gradients balanced as in HMDC (published there: 2)"
    )

    @field_validator("network", mode="before")
    @classmethod
    def _equal_weights(cls, networks: Any) -> Any:
        return dict.fromkeys(networks, 1.0) if isinstance(networks, list | tuple) else networks

    @field_validator("network")
    @classmethod
    def _can_be_drawn(cls, networks: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(networks, dict) and not (networks and all(0 < w < float("inf") for w in networks.values())):
            raise ValueError("give at least one network, each with a weight above 0")
        return networks

    @model_validator(mode="after")
    def _settings_of_these(self) -> PoolOptions:
        names = pool(self)
        if self.networks_at_once > len(names):
            raise ValueError(
                f"networks_at_once = {self.networks_at_once}, but network names {len(names)}: name as many, such as "
                "network=[ConvNet, AlexNet]"
            )
        for settings in self._settings_by_name(names).values():
            check_settings(settings)
        return self

    def _settings_by_name(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        if isinstance(self.network, str):
            return {self.network: self.network_settings}
        for name, settings in self.network_settings.items():
            if name not in names:
                raise ValueError(
                    f"network_settings of several networks are by name, such as {{{names[0]}: {{depth: 3}}}}, and {name!r} is "
                    f"none of {', '.join(names)}"
                )
            if not isinstance(settings, dict):
                raise ValueError(f"network_settings of {name} must be a mapping, such as {{{name}: {{depth: 3}}}}")
        return self.network_settings


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `ValueError` if settings of a network name something that the task decides."""
    taken = {"channels", "image_size", "num_classes", "rng", "device", "registry"} & set(settings)
    if taken:
        raise ValueError(f"network_settings: {', '.join(sorted(taken))} cannot be set: it comes from the task")


class Networks(Protocol):
    """Options that name one network, or several with their weights."""

    @property
    def network(self) -> str | dict[str, float]: ...
    @property
    def network_settings(self) -> dict[str, Any]: ...


def pool(options: Networks) -> tuple[str, ...]:
    """Names of the networks that options name, in order."""
    return (options.network,) if isinstance(options.network, str) else tuple(options.network)


def settings_of(options: Networks, name: str) -> dict[str, Any]:
    """The settings of one network of the pool."""
    settings = options.network_settings
    return settings if isinstance(options.network, str) else settings.get(name, {})


class MatchingOptions(PoolOptions):
    """Options of every objective that compares real and synthetic images with networks."""

    batch_real: int = Field(
        256, ge=1, description="real images per class and step (published: 256); all of a class that has fewer"
    )
    dsa: str = Field(FULL, description="DSA operations joined by '_', one drawn per class and step; or 'none'")

    @model_validator(mode="before")
    @classmethod
    def _without_memory_budget(cls, values: Any) -> Any:
        """Leave out an option of version 0.1, which settings of older runs have."""
        if not isinstance(values, Mapping) or "memory_budget" not in values:
            return values
        warnings.warn("memory_budget has no effect on an objective any more: leave it out", FutureWarning, stacklevel=2)
        return {name: value for name, value in values.items() if name != "memory_budget"}

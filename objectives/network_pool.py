"""Several networks in matching: a pool from which each step draws one, or several at once with balanced gradients.

Source: "Heterogeneous Model Dataset Condensation" (HMDC), ECCV 2024: two networks of different kinds at once, the loss of each
scaled by the largest gradient it has shown, so that neither decides the images alone. Its mutual distillation between the
networks is left out (its ablation: 74.1 of 75.1 without). It samples the size of the gradients every 10 steps; here it is
known at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ld3m_plugin.contracts import Match
from ld3m_plugin.devices.transfer import number
from ld3m_plugin.options import Options


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


def drawn(options: PoolOptions, rng: torch.Generator) -> tuple[str, ...]:
    """Draw the names of `networks_at_once` different networks, each with the probability of its weight among those left.

    Nothing is drawn from `rng` if there is no choice.
    """
    names = pool(options)
    if options.networks_at_once == len(names):
        return names
    assert isinstance(options.network, dict)  # noqa: S101 (for the type checker: one name is one at once)
    weights = torch.tensor(list(options.network.values()), dtype=torch.float64)
    chosen = torch.multinomial(weights, options.networks_at_once, generator=rng)
    return tuple(names[index] for index in sorted(chosen.tolist()))


def for_network(index: int, *name: str | int) -> tuple[str | int, ...]:
    """Name of a random stream for the network number `index` of a step; the first one's is that of a network alone."""
    return (*name, "network", index) if index else name


class Balance:
    """Adds the results of several networks, each scaled to the same largest gradient.

    With A_i the largest norm of dL_i/dimages so far, L = Σ_i L_i · min_j A_j / A_i over the networks of the step.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._largest: dict[str, Tensor] = {}

    def combine(self, matches: Mapping[str, Match]) -> Match:
        """Add up matches by network's name; one alone is returned as it is."""
        if len(matches) == 1:
            return next(iter(matches.values()))
        for name, match in matches.items():
            norm = match.image_grad.double().norm()
            known = self._largest.get(name)
            self._largest[name] = norm if known is None else torch.maximum(known.to(norm.device), norm)
        gradients = {name: match.image_grad for name, match in matches.items()}
        scales = dict(zip(matches, _scales(torch.stack([self._largest[name] for name in matches])), strict=True))
        loss = sum(scales[name] * match.loss for name, match in matches.items())
        gradient = torch.stack([scales[name].to(each.dtype) * each for name, each in gradients.items()]).sum(0)
        return Match(number(loss), gradient, {f"loss_{name}": match.loss for name, match in matches.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """The largest norms, NaN for a network that was not drawn yet; empty while nothing was balanced."""
        if not self._largest:
            return {}
        none = torch.tensor(float("nan"), dtype=torch.float64)
        return {"balance": torch.stack([self._largest.get(name, none).cpu() for name in self._names])}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state_dict` gave; a state without it is of a run that balanced nothing yet."""
        norms = state.get("balance")
        pairs = [] if norms is None else zip(self._names, norms, strict=True)
        self._largest = {name: norm for name, norm in pairs if not norm.isnan()}


def _scales(largest: Tensor) -> Tensor:
    """min_j A_j / A_i of norms A (n,); 1 for a gradient that was always zero, which does not count in the minimum.

    >>> _scales(torch.tensor([4.0, 2.0, 0.0])).tolist()
    [0.5, 1.0, 1.0]
    """
    positive = largest > 0  # no `if`: the host does not wait for the device
    least = torch.where(positive, largest, torch.inf).min()
    return torch.where(positive, least / largest, 1.0)

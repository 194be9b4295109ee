"""Several networks in matching: a pool from which each step draws one, or several at once with balanced gradients.

Source: "Heterogeneous Model Dataset Condensation" (HMDC), ECCV 2024: two networks of different kinds at once, the loss of each
scaled by the largest gradient it has shown, so that neither decides the images alone. Its mutual distillation between the
networks is left out (its ablation: 74.1 of 75.1 without). It samples the size of the gradients every 10 steps; here it is
known at every step.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ld3m_plugin.contracts import Match
from ld3m_plugin.devices.transfer import number
from ld3m_plugin.objectives.matching_options import PoolOptions, pool


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

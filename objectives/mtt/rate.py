"""The learned learning rate of a student, which never reaches zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: The share of the rate that one update may take away.
_MOST = 0.5


class LearnedRate:
    """A positive number under SGD with momentum, as published, but for updates that would take away more than half of it.

    Such an update is shortened to half, and `update` says so. The published code lets the rate go through zero, and then trains
    backwards. All other updates are the published ones, so that the published `rate` keeps its meaning.

    By hand: 0.02 + 0.01 = 0.03; 0.03 - 0.01 = 0.02; 0.02 - 0.03 would be negative, and 0.01 is taken.

    >>> a = LearnedRate(0.02, rate=1.0, momentum=0.0)
    >>> [(a.update(gradient), round(a.value, 6)) for gradient in (-0.01, 0.01, 0.03)]
    [(False, 0.03), (False, 0.02), (True, 0.01)]

    Args:
        value: to start from.
        rate: learning rate of this number.
        momentum: its momentum.
    """

    def __init__(self, value: float, rate: float, momentum: float) -> None:
        self.value = value
        self._rate, self._momentum = rate, momentum
        self._velocity = 0.0

    def update(self, gradient: float) -> bool:
        """One step against dloss/da; whether it was shortened."""
        self._velocity = self._momentum * self._velocity + gradient
        wanted, lowest = self.value - self._rate * self._velocity, self.value * (1 - _MOST)
        self.value = max(wanted, lowest)
        return wanted < lowest

    def state_dict(self) -> dict[str, Tensor]:
        """Value and velocity, in double precision: the numbers as they are."""
        values = {"synthetic_learning_rate": self.value, "synthetic_learning_rate_velocity": self._velocity}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.value = float(state["synthetic_learning_rate"])
        self._velocity = float(state["synthetic_learning_rate_velocity"])

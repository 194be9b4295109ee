"""The learned learning rate of a student; it stays positive."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

#: The largest share of the rate that one update may remove.
_MOST = 0.5


class LearnedRate:
    """A positive number trained by SGD with momentum, as published, except that no update removes more than half of it.

    Larger updates are shortened, and `update` returns True. The published code lets the rate pass through zero, and then trains
    backwards. All other updates are the published ones.

    By hand: 0.02 + 0.01 = 0.03; 0.03 - 0.01 = 0.02; 0.02 - 0.03 would be negative and becomes 0.01.

    >>> a = LearnedRate(0.02, rate=1.0, momentum=0.0)
    >>> [(a.update(gradient), round(a.value, 6)) for gradient in (-0.01, 0.01, 0.03)]
    [(False, 0.03), (False, 0.02), (True, 0.01)]

    Args:
        value: the initial value.
        rate: learning rate of this number.
        momentum: of its SGD.
    """

    def __init__(self, value: float, rate: float, momentum: float) -> None:
        self.value = value
        self._rate, self._momentum = rate, momentum
        self._velocity = 0.0

    def update(self, gradient: float) -> bool:
        """Take one step against `gradient` (dloss/da); returns whether it was shortened."""
        self._velocity = self._momentum * self._velocity + gradient
        wanted, lowest = self.value - self._rate * self._velocity, self.value * (1 - _MOST)
        self.value = max(wanted, lowest)
        return wanted < lowest

    def state_dict(self) -> dict[str, Tensor]:
        """Value and velocity in double precision, exactly."""
        values = {"synthetic_learning_rate": self.value, "synthetic_learning_rate_velocity": self._velocity}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the outcome of `state_dict`."""
        self.value = float(state["synthetic_learning_rate"])
        self._velocity = float(state["synthetic_learning_rate_velocity"])

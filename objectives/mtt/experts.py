"""Experts as the objective uses them: the parameters of networks trained on the real images, epoch by epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import InvalidOptionError


class Experts(Protocol):
    """Training trajectories of networks of one architecture."""

    @property
    def epochs(self) -> tuple[int, ...]:
        """The stored epochs, such as (0, 1, ..., 15); 0 is before training."""

    def __len__(self) -> int:
        """How many networks were trained."""

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """Parameters (P,), float32 on the CPU, in the order of `module.parameters()`."""

    def digest(self, epochs: Sequence[int]) -> str:
        """A digest of the weights of all experts after these epochs."""


class MemoryExperts:
    """Experts held in memory.

    >>> experts = MemoryExperts([{0: torch.zeros(5), 1: torch.ones(5)}])
    >>> len(experts), experts.epochs, float(experts.parameters(0, 1).sum())
    (1, (0, 1), 5.0)

    Args:
        trajectories: for each expert, epoch -> parameters (P,); all with the same epochs.
    """

    def __init__(self, trajectories: Sequence[Mapping[int, Tensor]]) -> None:
        self._trajectories = [dict(trajectory) for trajectory in trajectories]
        self.epochs = tuple(sorted(self._trajectories[0]))
        if any(tuple(sorted(trajectory)) != self.epochs for trajectory in self._trajectories):
            raise ValueError("all experts must have the same epochs")

    def __len__(self) -> int:
        return len(self._trajectories)

    def parameters(self, expert: int, epoch: int) -> Tensor:
        return self._trajectories[expert][epoch]

    def digest(self, epochs: Sequence[int]) -> str:
        whole = hashlib.sha256()
        for trajectory in self._trajectories:
            for epoch in epochs:
                whole.update(trajectory[epoch].contiguous().numpy().data)
        return whole.hexdigest()


def flat(module: nn.Module) -> Tensor:
    """Copy a module's parameters into one vector (P,) on the CPU, in the order in which experts store them."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).cpu()


def needed_epochs(max_start_epoch: int, expert_epochs: int) -> tuple[int, ...]:
    """The epochs that the steps of a run may need, in order.

    >>> needed_epochs(max_start_epoch=2, expert_epochs=5)
    (0, 1, 5, 6)
    """
    return tuple(sorted({*range(max_start_epoch), *range(expert_epochs, expert_epochs + max_start_epoch)}))


def check_epochs(experts: Experts, max_start_epoch: int, expert_epochs: int) -> None:
    """Raise `InvalidOptionError` if the experts lack an epoch that a step may need."""
    missing = sorted(set(needed_epochs(max_start_epoch, expert_epochs)) - set(experts.epochs))
    if missing:
        raise InvalidOptionError(
            f"mtt: max_start_epoch = {max_start_epoch} and expert_epochs = {expert_epochs} need epoch {missing[0]} of the "
            f"experts, which have {', '.join(map(str, experts.epochs))}: lower one of the two, or train experts for "
            f"{max_start_epoch + expert_epochs - 1} epochs"
        )

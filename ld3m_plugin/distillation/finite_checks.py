"""Checks that what a step computes is finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ld3m_plugin.errors import NonFiniteError


class FiniteChecks:
    """Checks of tensors, which name the step: those on the CPU are read at once, those on a device when `read` is called.

    A device works behind the host, and reading a check waits for it: the checks of several steps are read in one copy.
    """

    def __init__(self) -> None:
        self._unread: list[tuple[str, int, Tensor]] = []

    def check(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Check tensors by what they are, such as "the loss", of a step (from 1).

        Raises:
            NonFiniteError: one on the CPU is not finite.
        """
        for what, tensor in tensors.items():
            finite = torch.isfinite(tensor).all()
            if finite.device.type != "cpu":
                self._unread.append((what, step, finite))
            elif not finite:
                raise _error(what, step, "the state before it is kept")

    def read(self, kept: str) -> None:
        """Read the checks since the last reading.

        Args:
            kept: for the message, the state that is kept.

        Raises:
            NonFiniteError: one failed; the message names the first.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        for (what, step, _), finite in zip(unread, torch.stack([flag for *_, flag in unread]).tolist(), strict=True):
            if not finite:
                raise _error(what, step, kept)

    @property
    def waiting(self) -> bool:
        """Whether checks were not read yet."""
        return bool(self._unread)

    def forget(self) -> None:
        """Drop the checks that were not read."""
        self._unread = []


def _error(what: str, step: int, kept: str) -> NonFiniteError:
    return NonFiniteError(
        f"{what} is not finite at step {step}: lower the learning rate "
        f"(--set optimizer.learning_rates.NAME=VALUE) or turn off autocast; {kept}"
    )

"""Batches of real images as generative models are trained on them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ld3m_plugin.task import Task

_READ_AT_ONCE = 256


class RealBatches:
    """Random batches of real images in [-1, 1], every image equally likely, and their classes."""

    def __init__(self, task: Task, batch_size: int) -> None:
        self._task, self._size = task, batch_size
        counts = torch.tensor(task.train.counts())
        self._ends = counts.cumsum(0)
        self.total = int(self._ends[-1])

    def draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (batch, C, H, W) and classes (batch,), on the task's device."""
        numbers = torch.randint(self.total, (self._size,), generator=rng).sort().values
        labels = torch.searchsorted(self._ends, numbers, right=True)
        starts = self._ends.roll(1).index_fill(0, torch.tensor(0), 0)
        parts = [self._read(int(c), numbers[labels == c] - starts[c]) for c in labels.unique()]
        return torch.cat(parts), labels.to(self._task.device)

    def everything(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images class by class, in batches."""
        for class_index, count in enumerate(self._task.train.counts()):
            for which in torch.arange(count).split(_READ_AT_ONCE):
                if not len(which):  # splitting nothing gives one empty part
                    continue
                yield self._read(class_index, which), torch.full((len(which),), class_index)

    def _read(self, class_index: int, which: Tensor) -> Tensor:
        images = self._task.train.read(class_index, which).to(self._task.device)
        return images.float().div_(127.5).sub_(1)

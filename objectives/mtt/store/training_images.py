"""Training images of all classes as one numbered sequence, in batches of any order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.memory import KEEP_BYTES


class TrainingImages:
    """All training images, numbered class after class; held in memory if they are small.

    Args:
        task: has the images, and the device that batches are moved to.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        counts = torch.tensor(task.train.counts())
        self._ends = counts.cumsum(0)
        self._starts = self._ends - counts
        self._pool: Tensor | None = None
        if len(self) * task.channels * task.image_size**2 <= KEEP_BYTES:
            self._pool = torch.cat([task.train.read(k, torch.arange(n)) for k, n in enumerate(task.train.counts())])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batches(self, batch_size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: every image once in an order drawn with `rng`, normalised (n, C, H, W), and classes (n,)."""
        for which in torch.randperm(len(self), generator=rng).split(batch_size):
            labels = torch.searchsorted(self._ends, which, right=True)
            yield self.task.normalise(self._read(which, labels)), labels.to(self.task.device)

    def _read(self, which: Tensor, labels: Tensor) -> Tensor:
        if self._pool is not None:
            return self._pool[which]
        task = self.task
        images = torch.empty(len(which), task.channels, task.image_size, task.image_size, dtype=torch.uint8)
        for class_index in labels.unique().tolist():
            rows = labels == class_index
            images[rows] = task.train.read(class_index, which[rows] - self._starts[class_index])
        return images

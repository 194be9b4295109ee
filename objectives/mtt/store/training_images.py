"""Training images of all classes as one numbered sequence, in batches of any order."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.memory import KEEP_BYTES
from ld3m_plugin.data.numbered_images import NumberedImages


class TrainingImages:
    """Training images by number (`NumberedImages`), held in memory if they take at most `KEEP_BYTES`.

    Args:
        task: has the images, and the device that batches are moved to.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._numbered = NumberedImages(task.train)
        self._pool: Tensor | None = None
        if len(self) * task.channels * task.image_size**2 <= KEEP_BYTES:
            self._pool = self._numbered.read(torch.arange(len(self)))[0]

    def __len__(self) -> int:
        return len(self._numbered)

    def batches(self, batch_size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: every image once in an order drawn with `rng`, normalised (n, C, H, W), and classes (n,)."""
        for which in torch.randperm(len(self), generator=rng).split(batch_size):
            if self._pool is None:
                images, labels = self._numbered.read(which)
            else:
                images, labels = self._pool[which], self._numbered.labels(which)
            yield self.task.normalise(images), labels.to(self.task.device)

"""Images of all classes as one sequence, numbered through the classes in label order."""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.task import ImagesByClass


def evenly_spaced(count: int, wanted: int | None) -> Tensor:
    """Choose `wanted` of `count` numbers, evenly spaced from 0; all of them for None, or if there are fewer.

    >>> evenly_spaced(10, 4).tolist(), evenly_spaced(3, 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    used = count if wanted is None else min(wanted, count)
    return torch.arange(used) * count // max(used, 1)


class NumberedImages:
    """Images by number from 0: first all of class 0, then all of class 1, up to class K - 1."""

    def __init__(self, images: ImagesByClass) -> None:
        self._images = images
        counts = torch.tensor(images.counts())
        self._ends = counts.cumsum(0)
        self._starts = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1])

    def labels(self, numbers: Tensor) -> Tensor:
        """Classes (n,) of the images `numbers` (n,)."""
        return torch.searchsorted(self._ends, numbers, right=True)

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Read images `numbers` (n,), in that order; each class is read once.

        Returns:
            uint8 images (n, C, H, W), or an empty tensor (0,) for n = 0, and their classes (n,), on the CPU.
        """
        labels = self.labels(numbers)
        images = torch.empty(0, dtype=torch.uint8)
        for class_index in labels.unique().tolist():
            rows = labels == class_index
            part = self._images.read(class_index, numbers[rows] - self._starts[class_index])
            if not len(images):
                images = part.new_empty(len(numbers), *part.shape[1:])
            images[rows] = part
        return images, labels

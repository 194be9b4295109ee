"""The test images, read and normalised once for all networks of a table where they are few enough."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.numbered_images import evenly_spaced

#: Images of a class that are read at once.
_READ = 256

#: Images of a forward pass. On a CPU, more are not faster and take memory in proportion.
_AT_ONCE = {"cpu": 128}
_AT_ONCE_ELSEWHERE = 256

#: Larger sets of normalised images are read again for each network: 256 MiB.
_HELD_BYTES = 2**28


class TestImages:
    """Normalised test images of a task, on its device.

    Args:
        per_class: number of images of each class, evenly spaced over it; None: all.
    """

    __test__ = False  # no test case, to pytest

    def __init__(self, task: Task, per_class: int | None) -> None:
        self._task, self._per_class = task, per_class
        count = sum(len(evenly_spaced(count, per_class)) for count in task.test.counts())
        self._is_held = 4 * count * task.channels * task.image_size**2 <= _HELD_BYTES
        self._held: tuple[Tensor, ...] | None = None

    def batches(self) -> Iterator[Tensor]:
        """Iterate over images (n, C, H, W), class by class; a batch may span classes."""
        if self._held is None and self._is_held:
            self._held = tuple(self._normalised())
        yield from self._normalised() if self._held is None else self._held

    def _normalised(self) -> Iterator[Tensor]:
        at_once = _AT_ONCE.get(self._task.device.type, _AT_ONCE_ELSEWHERE)
        for images, _ in read_batches(self._task, self._per_class):
            yield from self._task.normalise(images).split(at_once)


def read_batches(task: Task, per_class: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over uint8 images (n, C, H, W) and class indices (n,) of the test set, on the CPU; a batch may span classes."""
    images, labels, held = [], [], 0
    for class_index, count in enumerate(task.test.counts()):
        for which in evenly_spaced(count, per_class).split(_READ):
            images.append(task.test.read(class_index, which))
            labels.append(torch.full((len(which),), class_index))
            held += len(which)
            if held >= _READ:
                yield torch.cat(images), torch.cat(labels)
                images, labels, held = [], [], 0
    if held:
        yield torch.cat(images), torch.cat(labels)

"""Batches of real images for the training of generative models."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ld3m_plugin.data.numbered_images import NumberedImages
from ld3m_plugin.task import Task

_READ_AT_ONCE = 256


class RealBatches:
    """Random batches of real images in [-1, 1], every image equally likely, and their classes.

    Args:
        mirror: an image and its mirror image, left and right exchanged, are equally likely.
    """

    def __init__(self, task: Task, batch_size: int, mirror: bool = False) -> None:
        self._task, self._size, self._mirror = task, batch_size, mirror
        self._numbered = NumberedImages(task.train)
        self.total = len(self._numbered)

    def draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (batch, C, H, W) and classes (batch,), on the task's device."""
        numbers = torch.randint(self.total, (self._size,), generator=rng).sort().values
        images, labels = self._numbered.read(numbers)
        if self._mirror:  # no draw without it: the batches of earlier trainings stay the same
            chosen = torch.rand(len(images), generator=rng) < 0.5
            images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)
        return self._scaled(images), labels.to(self._task.device)

    def everything(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All pictures, on the task's device, and classes, on the CPU; no batch spans two classes.

        With `mirror`, a batch is followed by its mirror images.
        """
        for of_class in torch.arange(self.total).split(self._task.train.counts()):
            for numbers in of_class.split(_READ_AT_ONCE):
                if len(numbers):  # a class without images gives one empty part
                    images, labels = self._numbered.read(numbers)
                    yield self._scaled(images), labels
                    if self._mirror:
                        yield self._scaled(images.flip(3)), labels

    def _scaled(self, images: Tensor) -> Tensor:
        if images.is_floating_point():  # a caller's normalised images
            return self._task.denormalise(self._task.normalise(images)).mul_(2).sub_(1)
        return images.to(self._task.device).float().div_(127.5).sub_(1)

"""An initialiser: pictures that generators start from, as in `-g pixel -G init=example-median`."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import Initialiser, Options, Task


class MedianOptions(Options):
    """Options of the initialiser: `-G init_options={most: 50}`. Each has a default."""

    most: int = Field(1000, ge=1, description="training images of each class that are used, the first ones")


class Median(Initialiser):
    """The median of each pixel over the training images of the class, for all of its images."""

    Options = MedianOptions

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        def median(class_index: int, count: int, stream: torch.Generator) -> Tensor:
            which = torch.arange(min(task.train.counts()[class_index], self.options.most))
            pixels = task.train.read(class_index, which)  # uint8 (n, C, H, W)
            return task.normalise(pixels.median(0).values.expand(count, -1, -1, -1))

        return task.by_class(labels, rng, median)  # (N, C, H, W)

    def start(self) -> str:
        return "class medians"

"""Data for choosing settings: training images that are held out take the place of the test set, which is never read."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ld3m_plugin.errors import DataError
from ld3m_plugin.randomness import stream
from ld3m_plugin.task import ImagesByClass, Task

#: Share of each class that is held out where the data set does not say which images are.
_SHARE = 0.2


def for_selection(task: Task) -> Task:
    """The task with held-out training images as its test set, and without them in training.

    Held out are the images that `Task.held_out` names, else a fifth of each class, the same ones each time.

    Raises:
        DataError: a class has too few images, or the data set says that none may be held out.
    """
    if task.held_out is not None and not any(task.held_out):
        raise DataError(
            f"{task.source}: none of these training images may be held out, and select_on=validation needs some; choose another "
            "split (`ld3m plugins show NAME` lists those of a data set), or leave it out"
        )
    counts = task.train.counts()
    held_out = _a_share(counts) if task.held_out is None else tuple(torch.tensor(each).long() for each in task.held_out)
    kept = []
    for name, count, which in zip(task.class_names, counts, held_out, strict=True):
        others = torch.ones(count, dtype=torch.bool)
        others[which] = False
        if not (len(which) and others.any()):
            raise DataError(
                f"class {name!r} has {count} images, of which {len(which)} can be held out: select_on=validation needs at least "
                f"one for training and one to hold out; add images ({task.train.origin}), or leave it out"
            )
        kept.append(others.nonzero().squeeze(1))
    return replace(
        task,
        source=f"{task.source}; accuracies are of {sum(map(len, held_out))} training images that are held out",
        train=ChosenImages(task.train, tuple(kept)),
        test_images=ChosenImages(task.train, held_out),
        test_groups=task.held_out_groups,
        held_out=None,
        held_out_groups=None,
    )


def _a_share(counts: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.randperm(count, generator=stream(0, "held out", k))[: max(1, round(count * _SHARE))].sort().values
        for k, count in enumerate(counts)
    )


class ChosenImages(ImagesByClass):
    """Some of the images of each class.

    Args:
        images: of K classes.
        which: for each class, the numbers (n_k,) of its images, in the order they are wanted in.
    """

    def __init__(self, images: ImagesByClass, which: tuple[Tensor, ...]) -> None:
        self._images, self._which, self.origin = images, which, images.origin
        self.normalised = images.normalised

    def counts(self) -> tuple[int, ...]:
        return tuple(map(len, self._which))

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._images.read(class_index, self._which[class_index][which])

    def read_to(self, class_index: int, which: Tensor, device: torch.device) -> Tensor:
        return self._images.read_to(class_index, self._which[class_index][which], device)

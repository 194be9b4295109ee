"""What a data set gives, checked: facts when it is loaded, images whenever they are read. A fault names the data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.errors import HostError, PluginFailedError, is_of_the_machine, one_line, place_in_plugin
from ld3m_plugin.registry import described, reason
from ld3m_plugin.task import ImagesByClass, Task


def checked_task(name: str, task: Task) -> Task:
    """Return `task`, of the registered data set `name`, with images that name it when they fail.

    Raises:
        PluginFailedError: facts that do not fit each other; the message names the data set and the fact.
    """
    who = described("dataset", name)
    problem = _problem(task)
    if problem:
        raise PluginFailedError(f"{who} gave a Task with {problem}")
    shape = (task.channels, task.image_size, task.image_size)
    test = None if task.test_images is None else CheckedImages(task.test_images, who, task.class_names, shape)
    return replace(task, train=CheckedImages(task.train, who, task.class_names, shape), test_images=test)


def _problem(task: Task) -> str:
    """What of a task's facts is wrong; empty if nothing is."""
    for fact, kind in (("class_names", str), ("wordnet_ids", str | None), ("mean", int | float), ("std", int | float)):
        values = getattr(task, fact)
        if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, kind) for v in values):
            return f"{fact} = {one_line(repr(values))}: it must be a tuple, one value for each class or channel"
    if len(task.wordnet_ids) != len(task.class_names):
        return f"{len(task.wordnet_ids)} wordnet_ids for {len(task.class_names)} classes: give one to each, or None"
    if len(task.mean) != len(task.std) or not task.mean:
        return f"{len(task.mean)} numbers in mean and {len(task.std)} in std: give one of each to every channel"
    if not all(map(math.isfinite, (*task.mean, *task.std))) or min(task.std) <= 0:
        return f"mean = {task.mean} and std = {task.std}: they must be finite, and std above 0"
    if type(task.image_size) is not int or task.image_size < 1:
        return f"image_size = {task.image_size!r}: it must be a whole number of pixels"
    return next(filter(None, (_problem_of_images(part, task) for part in ("train", "test_images"))), "")


def _problem_of_images(part: str, task: Task) -> str:
    images: Any = getattr(task, part)
    if images is None and part == "test_images":
        return ""
    if not isinstance(images, ImagesByClass):
        return f"{part} = {type(images).__name__}: it must be an ld3m_plugin.ImagesByClass"
    counts = images.counts()
    if not isinstance(counts, Sequence) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return f"{part}.counts() = {one_line(repr(counts))}: it must be a tuple with a number of images for each class"
    if len(counts) != len(task.class_names):
        return f"{len(task.class_names)} class_names, and {part}.counts() for {len(counts)} classes"
    return ""


class CheckedImages(ImagesByClass):
    """Images of a data set. What they raise, and images of another type or shape than the task's, name the data set.

    Args:
        images: what the data set gave.
        who: the data set, for messages.
        names: of the K classes.
        shape: (C, H, W) of the task.
    """

    def __init__(self, images: ImagesByClass, who: str, names: Sequence[str], shape: tuple[int, ...]) -> None:
        self._images, self._who, self._names, self._shape = images, who, tuple(names), shape
        self.normalised = images.normalised

    @property
    def origin(self) -> str:  # type: ignore[override]
        return getattr(self._images, "origin", self._who)

    def counts(self) -> tuple[int, ...]:
        return tuple(self._images.counts())

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._checked(self._images.read, class_index, which)

    def read_to(self, class_index: int, which: Tensor, device: torch.device) -> Tensor:
        return self._checked(self._images.read_to, class_index, which, device)

    def digest(self, class_index: int) -> str:
        try:
            return self._images.digest(class_index)
        except Exception as error:
            raise self._failed("digest", class_index, error) from error

    def _checked(self, read: Any, class_index: int, which: Tensor, *device: torch.device) -> Tensor:
        try:
            images = read(class_index, which, *device)
        except Exception as error:
            raise self._failed("read", class_index, error) from error
        found = (images.dtype, tuple(images.shape)) if isinstance(images, Tensor) else type(images).__name__
        wanted = (torch.float32 if self.normalised else torch.uint8, (len(which), *self._shape))
        if found != wanted:
            raise PluginFailedError(
                f"{self._who} gave {_text(found)} for {len(which)} images of class {self._names[class_index]!r}: "
                f"read() must give {_text(wanted)}"
            )
        checked: Tensor = images
        return checked

    def _failed(self, method: str, class_index: int, error: Exception) -> Exception:
        """What to raise for `error`: itself if it is for the user or of the machine."""
        if isinstance(error, HostError) or is_of_the_machine(error):
            return error
        what = f"{method} of class {self._names[class_index]!r}"
        return PluginFailedError(f"{self._who} failed in {what}: {reason(error)}{place_in_plugin(error)}")


def _text(found: Any) -> str:
    return f"a {found}" if isinstance(found, str) else f"{str(found[0]).removeprefix('torch.')} {found[1]}"

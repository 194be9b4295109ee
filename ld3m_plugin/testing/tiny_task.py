"""Data for tests: random images in milliseconds, gray and in colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ld3m_plugin.contracts import ImagesByClass, Task
from ld3m_plugin.errors import HostError, PluginFailedError, PluginLoadError, WrongResultError
from ld3m_plugin.randomness import stream

#: Synthetic images of each class.
PER_CLASS = 3
#: What the host raises for a mistake in a plugin.
_OF_A_FAULT = (HostError, PluginFailedError, PluginLoadError, WrongResultError)


class RandomImages(ImagesByClass):
    """Noisy uint8 stripes whose number differs by class: a network can learn them, and a loss can fall."""

    origin = "random images for tests"

    def __init__(self, classes: int, count: int, channels: int, size: int, seed: int) -> None:
        rng = stream(seed, "tiny task")
        noise = torch.randint(0, 96, (classes, count, channels, size, size), generator=rng)
        waves = torch.arange(1, classes + 1).view(-1, 1) * torch.arange(size) * (2 * torch.pi / size)
        stripes = (79 * (1 + waves.cos())).long().view(classes, 1, 1, 1, size)
        self._images = (noise + stripes).to(torch.uint8)

    def counts(self) -> tuple[int, ...]:
        return (self._images.shape[1],) * len(self._images)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._images[class_index, which]


def tiny_task(
    classes: int = 3,
    channels: int = 1,
    image_size: int = 16,
    train: int = 12,
    test: int = 4,
    class_names: tuple[str, ...] | None = None,
) -> Task:
    """Make a task of random images in milliseconds; `train` and `test` are images per class.

    Args:
        class_names: names that a pre-trained prior knows, in place of "class 0", ...; they also set the number of classes.
    """
    names = class_names or tuple(f"class {index}" for index in range(classes))
    classes = len(names)
    return Task(
        name="tiny",
        source="random images for tests",
        class_names=names,
        wordnet_ids=(None,) * classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        image_size=image_size,
        train=RandomImages(classes, train, channels, image_size, seed=0),
        test_images=RandomImages(classes, test, channels, image_size, seed=1),
    )


def class_indices(task: Task) -> Tensor:
    """Labels (N,) of `PER_CLASS` images of each class, ordered by class."""
    return torch.arange(task.num_classes).repeat_interleave(PER_CLASS)


@contextmanager
def rules(who: str) -> Iterator[None]:
    """Let what the host says of a fault be a broken rule, and check that torch's global random stream stays as it is.

    Args:
        who: what is checked, such as "a generator".

    Raises:
        AssertionError: a rule is broken.
    """
    before = torch.get_rng_state()
    try:
        yield
    except HostError as error:
        if type(error) not in _OF_A_FAULT:  # raised on purpose, such as `DataError`
            raise
        raise AssertionError(str(error)) from error
    assert torch.equal(torch.get_rng_state(), before), f"{who} must not draw from torch's global random stream"


def check_each(
    task: Task | None, who: str, check: Callable[[Task], None], prepare: Callable[[Task], object] | None = None
) -> None:
    """Check the rules with the task that is given, else with one in gray and one in colour.

    Args:
        who: what is checked, as for `rules`.
        prepare: what may refuse colour by a `HostError`, which is then not checked; None: nothing may.
    """
    for data in [tiny_task(), tiny_task(channels=3)] if task is None else [task]:
        with rules(who):
            if task is None and data.channels == 3 and prepare is not None and _refuses(prepare, data):
                continue
            check(data)


def _refuses(prepare: Callable[[Task], object], task: Task) -> bool:
    try:
        prepare(task)
    except HostError as error:
        if type(error) in _OF_A_FAULT:
            raise
        return True
    return False

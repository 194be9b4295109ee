"""Training networks on a distilled set and on random real images, and testing them."""

from __future__ import annotations

import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.data.numbered_images import evenly_spaced
from ld3m_plugin.errors import ArtefactError, DataError, InvalidOptionError
from ld3m_plugin.evaluation.protocols import Protocol, get_protocol
from ld3m_plugin.evaluation.table import RANDOM_REAL, Evaluation, Row
from ld3m_plugin.evaluation.train_network import accuracy, train
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Registry, use_registry

Progress = Callable[[str], None]


class ImageSet(typing.Protocol):
    """Images that can be evaluated: `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K)."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


def evaluate(
    distilled: ImageSet,
    task: Task,
    *,
    networks: Sequence[str] = (),
    protocol: str | Protocol = "quick",
    repeats: int | None = None,
    random_real: bool = True,
    test_per_class: int | None = None,
    seed: int = 0,
    registry: Registry | None = None,
    on_progress: Progress = lambda _: None,
) -> Evaluation:
    """Train networks on a distilled set, and on as many random real images, and test them.

    Repeat i of a row uses initial weights, image order and augmentation from the stream (seed, network, i), the same for both
    kinds of images; each repeat of the random-real row draws other images.

    Args:
        distilled: has `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K); a `DistilledSet` does. A protocol with
            a learned rate reads it from `learned`, if the set has that.
        networks: architectures; default: the protocol's.
        repeats: networks a row; default: the protocol's.
        random_real: add the rows of random real images.
        test_per_class: test on that many images of each class, evenly spaced over it; default: on the full test set. A class
            with fewer keeps all it has.
        on_progress: called with one line before each training.

    Raises:
        UsageError: an unknown protocol or network, a protocol whose learned rate is missing, or `test_per_class` below 1.
        ArtefactError: images or labels that do not fit the task.
    """
    with use_registry(registry):
        if test_per_class is not None and test_per_class < 1:
            raise InvalidOptionError(f"test_per_class = {test_per_class}: it must be at least 1, or None for all")
        _check_fits(distilled, task)
        started = time.perf_counter()
        recipe = get_protocol(protocol) if isinstance(protocol, str) else protocol
        recipe = recipe.for_images(getattr(distilled, "learned", {}))
        check_evaluation(task, recipe, networks, int(_hard(distilled.labels).bincount().max()) if random_real else 0)
        test = _Test(distilled, task, recipe, seed, test_per_class, on_progress)
        rows = tuple(
            test.row(images, network, repeats or recipe.repeats)
            for network in tuple(networks) or recipe.networks
            for images in ("distilled", *([RANDOM_REAL] if random_real else []))
        )
        tests = sum(len(evenly_spaced(count, test_per_class)) for count in task.test.counts())
        seconds = time.perf_counter() - started
        return Evaluation(recipe, rows, tests, seed, seconds, task.source, test_per_class)


def check_evaluation(task: Task, protocol: Protocol, networks: Sequence[str], real_images: int) -> None:
    """Raise what an evaluation would raise, before the work that leads to it.

    Args:
        real_images: number of images of each class that the row of random real images needs; 0 without that row.

    Raises:
        UsageError: an unknown network, or one that does not take images of this size.
        DataError: no test images, or a class with too few training images.
    """
    if sum(task.test.counts()) == 0:
        raise DataError(f"there is no test image ({task.test.origin}): add some")
    for network in tuple(networks) or protocol.networks:
        _build(network, task, protocol, torch.Generator())
    for name, count in zip(task.class_names, task.train.counts(), strict=True):
        if count < real_images:
            raise DataError(
                f"class {name!r} has {count} images and the row of random real images needs {real_images} "
                f"({task.train.origin}): lower --ipc, or leave that row or the evaluation out"
            )


@dataclass(frozen=True)
class _Test:
    """The settings that all rows of a table share."""

    distilled: ImageSet
    task: Task
    protocol: Protocol
    seed: int
    per_class: int | None
    on_progress: Progress

    def row(self, images: str, network: str, repeats: int) -> Row:
        """Train and test `repeats` networks on images of one kind."""
        accuracies = []
        for repeat in range(repeats):
            self.on_progress(f"{network} on {images} images, {repeat + 1} of {repeats}")
            accuracies.append(self._accuracy(images, network, repeat))
        return Row(images, network, tuple(accuracies))

    def _accuracy(self, images: str, network: str, repeat: int) -> float:
        pictures, labels = self.distilled.images, self.distilled.labels
        if images == RANDOM_REAL:
            pictures, labels = random_real_images(labels, self.task, self.seed, repeat)
        rng, device = stream(self.seed, "evaluation", network, repeat), self.task.device
        student = _build(network, self.task, self.protocol, rng)
        rate = self.protocol.rate(network)
        trained = train(student, pictures.to(device), labels.to(device), self.protocol, rate, rng)
        return accuracy(trained, self.task, self.per_class)


def random_real_images(labels: Tensor, task: Task, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
    """Draw as many real images of each class as the distilled set has; a soft label counts for its likeliest class.

    Args:
        labels: of the distilled set, (N,) or (N, K).

    Returns:
        Normalised images (N, C, H, W), class by class, and their classes (N,).
    """
    rng = stream(seed, "random real", repeat)
    counts = _hard(labels).bincount(minlength=task.num_classes).tolist()
    images = torch.cat([task.real_images(index, count, rng) for index, count in enumerate(counts)])
    return images, torch.arange(task.num_classes).repeat_interleave(torch.tensor(counts))


def _build(network: str, task: Task, protocol: Protocol, rng: torch.Generator) -> Network:
    return get_network(
        network,
        rng=rng,
        device=task.device,
        channels=task.channels,
        image_size=task.image_size,
        num_classes=task.num_classes,
        **protocol.network_settings.get(network, {}),
    )


def _check_fits(distilled: ImageSet, task: Task) -> None:
    images, labels = distilled.images, distilled.labels
    expected = (task.channels, task.image_size, task.image_size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or not torch.isfinite(images).all():
        raise ArtefactError(f"images {tuple(images.shape)} must be finite and (N, {', '.join(map(str, expected))})")
    if labels.shape not in {(len(images),), (len(images), task.num_classes)}:
        raise ArtefactError(f"labels {tuple(labels.shape)} fit neither {len(images)} indices nor their probabilities")
    if labels.ndim == 1 and not (labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < task.num_classes):
        raise ArtefactError(f"labels must be int64 and from 0 to {task.num_classes - 1}")


def _hard(labels: Tensor) -> Tensor:
    return labels if labels.ndim == 1 else labels.argmax(1)

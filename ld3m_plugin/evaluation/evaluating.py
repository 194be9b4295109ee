"""Training networks on a distilled set and on random real images, and testing them."""

from __future__ import annotations

import logging
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor

from ld3m_plugin.augmentation.strategy import parse
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import task_digest
from ld3m_plugin.errors import ArtefactError, DataError, InvalidOptionError
from ld3m_plugin.evaluation.divergence import has_diverged
from ld3m_plugin.evaluation.group_sizes import Together, check_together, fitting, group_sizes
from ld3m_plugin.evaluation.protocols import Protocol, get_protocol
from ld3m_plugin.evaluation.same_data import check_labels
from ld3m_plugin.evaluation.stacked_networks import StackedNetworks
from ld3m_plugin.evaluation.table import RANDOM_REAL, Evaluation, Row
from ld3m_plugin.evaluation.test_images import TestImages
from ld3m_plugin.evaluation.train_network import predict, share_correct, test_groups, test_labels, train
from ld3m_plugin.evaluation.train_together import Member, stack, train_together
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Registry, use_registry

_log = logging.getLogger(__name__)
Progress = Callable[[str], None]


class TrainingBegins(str):
    """The line of `on_progress` before a training; `networks` is how many networks it trains at once."""

    networks: int

    def __new__(cls, line: str, networks: int) -> Self:
        made = super().__new__(cls, line)
        made.networks = networks
        return made


def logged(line: str) -> None:
    """Log a line of progress: what evaluations do that were given no `on_progress`."""
    _log.info("evaluating %s", line)


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
    protocol: str | Mapping[str, Any] | Protocol = "quick",
    repeats: int | None = None,
    random_real: bool = True,
    test_per_class: int | None = None,
    together: Together = "auto",
    seed: int = 0,
    registry: Registry | None = None,
    on_progress: Progress = logged,
) -> Evaluation:
    """Train networks on a distilled set, and on as many random real images, and test them.

    Repeat i of a row uses initial weights, image order and augmentation from the stream (seed, network, i), the same for both
    kinds of images; each repeat of the random-real row draws other images.

    Args:
        distilled: has `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K); a `DistilledSet` does. A protocol with
            a learned rate reads it from `learned`, if the set has that.
        networks: architectures; default: the protocol's.
        protocol: a registered name, a YAML file, or what else `get_protocol` takes.
        repeats: networks a row; default: the protocol's.
        random_real: add the rows of random real images.
        test_per_class: test on that many images of each class, evenly spaced over it; default: on the full test set. A class
            with fewer keeps all it has.
        together: networks of a row that are trained at once, at most; 1: one by one; `auto`: by their sizes alone
            (`group_sizes.group_sizes`). Random numbers are the same in all cases. Networks that cannot be trained together are
            trained one by one, and `on_progress` is told.
        on_progress: called with one line, a `TrainingBegins`, before each training; default: it is logged.

    Raises:
        UsageError: an unknown protocol or network, a protocol whose learned rate is missing, or `test_per_class` or `together`
            below 1.
        ArtefactError: images or labels that do not fit the task, or its classes are in another order than those of the set.
    """
    with use_registry(registry):
        if test_per_class is not None and test_per_class < 1:
            raise InvalidOptionError(f"test_per_class = {test_per_class}: it must be at least 1, or None for all")
        check_together(together)
        check_fits(distilled, task)
        check_labels(getattr(distilled, "metadata", {}), task)
        recipe = get_protocol(protocol).for_images(getattr(distilled, "learned", {}))
        test = _Test(distilled.images, distilled.labels, task, recipe, seed, test_per_class, on_progress, together)
        return test.table(("distilled", RANDOM_REAL) if random_real else ("distilled",), networks, repeats)


def evaluate_random_real(
    labels: Tensor,
    task: Task,
    *,
    networks: Sequence[str] = (),
    protocol: str | Mapping[str, Any] | Protocol = "quick",
    repeats: int | None = None,
    test_per_class: int | None = None,
    together: Together = "auto",
    seed: int = 0,
    on_progress: Progress = logged,
) -> Evaluation:
    """Train networks on random real images alone; the rows equal those that `evaluate` puts beside a distilled set.

    Args:
        labels: of that distilled set, (N,) or (N, K): each class has as many real images as synthetic ones.
        networks, protocol, repeats, test_per_class, together, seed, on_progress: as for `evaluate`.

    Raises:
        UsageError: an unknown protocol or network, or a protocol that needs a learned rate.
        DataError: no test images, or a class with too few training images.
    """
    check_together(together)
    recipe = get_protocol(protocol).for_images({})
    test = _Test(torch.empty(0), labels, task, recipe, seed, test_per_class, on_progress, together)
    return test.table((RANDOM_REAL,), networks, repeats)


def check_evaluation(task: Task, protocol: Protocol, networks: Sequence[str], real_images: int) -> None:
    """Raise what an evaluation would raise, before the work that leads to it.

    Args:
        real_images: number of images of each class that the row of random real images needs; 0 without that row.

    Raises:
        UsageError: an unknown network or augmentation, or a network that does not take images of this size.
        DataError: one class alone, no test images, groups of other images, or a class with too few training images.
    """
    task.check_classes()
    if task.test_images is None:
        raise DataError(
            f"data set {task.name!r} has no test images: give test= to Task.from_tensors or Task.from_dataset"
        )
    if sum(task.test.counts()) == 0:
        raise DataError(f"there is no test image ({task.test.origin}): add some")
    if task.test_groups is not None and len(task.test_groups) != sum(task.test.counts()):
        raise DataError(
            f"{task.name!r} has {sum(task.test.counts())} test images and {len(task.test_groups)} test_groups "
            f"({task.test.origin}): give a group to each image, class by class"
        )
    parse(protocol.dsa)
    for network in tuple(networks) or protocol.networks:
        network_for(task, network, protocol.network_settings.get(network, {}), torch.Generator())
    for name, count in zip(task.class_names, task.train.counts(), strict=True):
        if count < real_images:
            raise DataError(
                f"class {name!r} has {count} images and the row of random real images needs {real_images} "
                f"({task.train.origin}): lower the images per class (--ipc), or leave out that row (random_real) or the "
                "evaluation"
            )


@dataclass(frozen=True)
class _Test:
    """The settings that all rows of a table share."""

    images: Tensor
    labels: Tensor
    task: Task
    protocol: Protocol
    seed: int
    per_class: int | None
    on_progress: Progress
    together: Together

    def table(self, kinds: Sequence[str], networks: Sequence[str], repeats: int | None) -> Evaluation:
        """Train and test networks on each kind of images."""
        started, task, recipe = time.perf_counter(), self.task, self.protocol
        real_images = int(hard_labels(self.labels).bincount().max()) if RANDOM_REAL in kinds else 0
        check_evaluation(task, recipe, networks, real_images)
        chosen = tuple(networks) or recipe.networks
        tests = TestImages(task, self.per_class)
        rows = tuple(self.row(kind, name, repeats or recipe.repeats, tests) for name in chosen for kind in kinds)
        labels, seconds = test_labels(task, self.per_class), time.perf_counter() - started
        return Evaluation(
            *(recipe, rows, len(labels), self.seed, seconds, task.source),
            test_per_class=self.per_class,
            test_labels=labels,
            test_groups=test_groups(task, self.per_class),
            data_digest=task_digest(task),
        )

    def row(self, images: str, network: str, repeats: int, tests: TestImages) -> Row:
        """Train and test `repeats` networks on images of one kind."""
        predicted, diverged, at_once = [], [], 1
        sizes = group_sizes(self._most_at_once(images, network, repeats), repeats)
        for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
            trained, together = self._trained(images, network, range(start, start + size), repeats)
            at_once = max(at_once, together)
            for repeat, member in enumerate(trained, start):
                predicted.append(predict(member.network, self.task, self.per_class, tests))
                diverged += [repeat] if has_diverged(member.network, member.images, member.labels) else []
        labels = test_labels(self.task, self.per_class)
        accuracies = tuple(share_correct(classes, labels) for classes in predicted)
        return Row(images, network, accuracies, torch.stack(predicted), tuple(diverged), at_once)

    def _most_at_once(self, images: str, network: str, repeats: int) -> int:
        if self.together != "auto":
            return self.together
        if repeats == 1:
            return 1
        first = self._member(images, network, 0)
        return fitting(first.network, first.images[: self.protocol.batch_size], averaged=self.protocol.ema is not None)

    def _trained(self, images: str, network: str, which: Sequence[int], repeats: int) -> tuple[Iterator[Member], int]:
        """The networks `which` of a row after their training, and how many were trained at once."""
        what, rate = f"{network} on {images} images", self.protocol.rate(network)
        if len(which) > 1:
            self.on_progress(
                TrainingBegins(f"{what}, {which[0] + 1} to {which[-1] + 1} of {repeats} together", len(which))
            )
            members = [self._member(images, network, repeat) for repeat in which]
            stacked = stack(members)
            if isinstance(stacked, StackedNetworks):
                train_together(members, stacked, self.protocol, rate)
                return iter(members), len(members)
            self.on_progress(f"{network} one by one: {stacked}")

        def alone() -> Iterator[Member]:
            for repeat in which:
                self.on_progress(TrainingBegins(f"{what}, {repeat + 1} of {repeats}", 1))
                member = self._member(images, network, repeat)
                trained = train(member.network, member.images, member.labels, self.protocol, rate, member.rng)
                yield replace(member, network=trained)

        return alone(), 1

    def _member(self, images: str, network: str, repeat: int) -> Member:
        pictures, labels, task = self.images, self.labels, self.task
        if images == RANDOM_REAL:
            pictures, labels = random_real_images(labels, task, self.seed, repeat)
        rng = stream(self.seed, "evaluation", network, repeat)
        student = network_for(task, network, self.protocol.network_settings.get(network, {}), rng)
        return Member(student, pictures.to(task.device), labels.to(task.device), rng)


def random_real_images(labels: Tensor, task: Task, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
    """Draw as many real images of each class as the distilled set has; a soft label counts for its likeliest class.

    Args:
        labels: of the distilled set, (N,) or (N, K).

    Returns:
        Normalised images (N, C, H, W), class by class, and their classes (N,).
    """
    counts = hard_labels(labels).bincount(minlength=task.num_classes).tolist()
    streams = [stream(seed, "random real", repeat, index) for index in range(task.num_classes)]
    images = torch.cat([task.real_images(k, count, streams[k]) for k, count in enumerate(counts)])
    return images, torch.arange(task.num_classes).repeat_interleave(torch.tensor(counts))


def check_fits(distilled: ImageSet, task: Task) -> None:
    images, labels = distilled.images, distilled.labels
    expected = (task.channels, task.image_size, task.image_size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or not torch.isfinite(images).all():
        raise ArtefactError(f"images {tuple(images.shape)} must be finite and (N, {', '.join(map(str, expected))})")
    if labels.shape not in {(len(images),), (len(images), task.num_classes)}:
        raise ArtefactError(f"labels {tuple(labels.shape)} fit neither {len(images)} indices nor their probabilities")
    if labels.ndim == 1 and not (labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < task.num_classes):
        raise ArtefactError(f"labels must be int64 and from 0 to {task.num_classes - 1}")

"""Evaluation: how well networks do on the test set after training on a distilled set, beside random real images."""

from __future__ import annotations

import statistics
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.errors import ArtefactError, DataError, InvalidOptionError
from ld3m_plugin.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from ld3m_plugin.evaluation.train_network import accuracy, chosen_tests, train
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Registry, use_registry

__all__ = ["PROTOCOLS", "Evaluation", "ImageSet", "Protocol", "Row", "check_evaluation", "evaluate", "get_protocol"]

RANDOM_REAL = "random real"


@dataclass(frozen=True)
class Row:
    """Test accuracies of one architecture trained on one kind of images.

    Attributes:
        images: what was trained on, such as `distilled` or `random real`.
        network: the architecture.
        accuracies: in percent, one a trained network.
    """

    images: str
    network: str
    accuracies: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many networks were trained."""
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        """Mean accuracy, percent."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (divisor n − 1), percentage points; None for n = 1."""
        return statistics.stdev(self.accuracies) if self.n > 1 else None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" +- {self.std:.1f}"
        return f"{self.mean:.1f}{spread} (n={self.n})"


@dataclass(frozen=True)
class Evaluation:
    """A table of accuracies with everything needed to repeat it.

    Attributes:
        test_images: on how many test images each network was tested.
        test_per_class: how many of each class were asked for; None for the full test set.
    """

    protocol: Protocol
    rows: tuple[Row, ...]
    test_images: int
    seed: int
    seconds: float
    data: str = ""
    test_per_class: int | None = None

    def mean(self, images: str) -> float:
        """Mean accuracy over architectures, percent."""
        return statistics.fmean(row.mean for row in self.rows if row.images == images)

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        rows = [{**asdict(row), "mean": row.mean, "std": row.std, "n": row.n} for row in self.rows]
        return {
            "protocol": self.protocol.model_dump(mode="json"),
            "rows": rows,
            "data": self.data,
            "test_images": self.test_images,
            "test_per_class": self.test_per_class,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What `record` gave, read back.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        rows = tuple(Row(row["images"], row["network"], tuple(map(float, row["accuracies"]))) for row in record["rows"])
        if not rows or not all(row.accuracies for row in rows):
            raise ValueError("there are no accuracies")
        per_class = record.get("test_per_class")
        return cls(
            Protocol.model_validate(record["protocol"]),
            rows,
            int(record["test_images"]),
            int(record["seed"]),
            float(record["seconds"]),
            str(record["data"]),
            None if per_class is None else int(per_class),
        )


class ImageSet(typing.Protocol):
    """What can be evaluated: `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K)."""

    @property
    def images(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


Progress = Callable[[str], None]


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
        distilled: has `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K); a `DistilledSet` does. Its `learned`,
            where it has that, is what a protocol with a learned rate reads.
        networks: architectures; default: the protocol's.
        repeats: networks a row; default: the protocol's.
        random_real: whether the rows of random real images stand beside.
        test_per_class: test on that many images of each class, evenly spaced over it; default: on the full test set. A class
            with fewer keeps all it has.
        on_progress: told in words what is being trained.

    Raises:
        UsageError: an unknown protocol or network, one that wants a learned rate that is not there, or no test images
            asked for.
        ArtefactError: images or labels that do not fit the task.
    """
    with use_registry(registry):
        return _evaluate(distilled, task, networks, protocol, repeats, random_real, test_per_class, seed, on_progress)


def _evaluate(
    distilled: ImageSet,
    task: Task,
    networks: Sequence[str],
    protocol: str | Protocol,
    repeats: int | None,
    random_real: bool,
    test_per_class: int | None,
    seed: int,
    on_progress: Progress,
) -> Evaluation:
    if test_per_class is not None and test_per_class < 1:
        raise InvalidOptionError(f"test_per_class = {test_per_class}: it must be at least 1, or None for all")
    _check_fits(distilled, task)
    started = time.perf_counter()
    recipe = get_protocol(protocol) if isinstance(protocol, str) else protocol
    recipe = recipe.for_images(getattr(distilled, "learned", {}))
    needed = int(_hard(distilled.labels).bincount().max()) if random_real else 0
    check_evaluation(task, recipe, networks, needed)
    chosen = tuple(networks) or recipe.networks
    repeats = repeats or recipe.repeats
    rows = []
    for network in chosen:
        builder = _Builder(network, task, recipe, seed, test_per_class)
        sets: list[tuple[str, Callable[[int], tuple[Tensor, Tensor]]]] = [
            ("distilled", lambda _: (distilled.images, distilled.labels))
        ]
        if random_real:
            sets.append((RANDOM_REAL, lambda repeat: _random_real(distilled.labels, task, seed, repeat)))
        for name, draw in sets:
            results = []
            for repeat in range(repeats):
                on_progress(f"{network} on {name} images, {repeat + 1} of {repeats}")
                results.append(builder.test(*draw(repeat), repeat))
            rows.append(Row(name, network, tuple(results)))
    tests = sum(len(chosen_tests(count, test_per_class)) for count in task.test.counts())
    return Evaluation(
        recipe, tuple(rows), tests, seed, time.perf_counter() - started, task.source, test_per_class=test_per_class
    )


def check_evaluation(task: Task, protocol: Protocol, networks: Sequence[str], real_images: int) -> None:
    """Raise what an evaluation would raise, before the work that leads to it.

    Args:
        real_images: how many the row of random real images needs of each class; 0 without that row.

    Raises:
        UsageError: an unknown network, or one that does not take images of this size.
        DataError: no test images, or a class with too few training images.
    """
    if sum(task.test.counts()) == 0:
        raise DataError(f"there is no test image ({task.test.origin})")
    for network in tuple(networks) or protocol.networks:
        _Builder(network, task, protocol, 0).build(torch.Generator())
    for name, count in zip(task.class_names, task.train.counts(), strict=True):
        if count < real_images:
            raise DataError(
                f"class {name!r} has {count} images and the row of random real images needs {real_images} "
                f"({task.train.origin}): lower --ipc, or leave that row or the evaluation out"
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


@dataclass(frozen=True)
class _Builder:
    network: str
    task: Task
    protocol: Protocol
    seed: int
    test_per_class: int | None = None

    def build(self, rng: torch.Generator) -> Network:
        return get_network(
            self.network,
            rng=rng,
            device=self.task.device,
            channels=self.task.channels,
            image_size=self.task.image_size,
            num_classes=self.task.num_classes,
            **self.protocol.network_settings.get(self.network, {}),
        )

    def test(self, images: Tensor, labels: Tensor, repeat: int) -> float:
        rng = stream(self.seed, "evaluation", self.network, repeat)
        network, device = self.build(rng), self.task.device
        rate = self.protocol.rate(self.network)
        trained = train(network, images.to(device), labels.to(device), self.protocol, rate, rng)
        return accuracy(trained, self.task, self.test_per_class)


def _random_real(labels: Tensor, task: Task, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
    """As many real images of each class as the distilled set has (soft labels: of the likeliest class)."""
    rng = stream(seed, "random real", repeat)
    counts = _hard(labels).bincount(minlength=task.num_classes).tolist()
    images = torch.cat([task.real_images(index, count, rng) for index, count in enumerate(counts)])
    return images, torch.arange(task.num_classes).repeat_interleave(torch.tensor(counts))


def _hard(labels: Tensor) -> Tensor:
    return labels if labels.ndim == 1 else labels.argmax(1)

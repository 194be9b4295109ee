"""Evaluation: how well networks do on the test set after training on a distilled set, beside random real images."""

from __future__ import annotations

import statistics
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.evaluation.protocols import PROTOCOLS, Protocol, get_protocol
from ld3m_plugin.evaluation.training import accuracy, train
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.plugins import Registry
from ld3m_plugin.randomness import stream

__all__ = ["PROTOCOLS", "Evaluation", "ImageSet", "Protocol", "Row", "evaluate", "get_protocol"]

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
    """A table of accuracies with everything needed to repeat it."""

    protocol: Protocol
    rows: tuple[Row, ...]
    test_images: int
    seed: int
    seconds: float

    def mean(self, images: str) -> float:
        """Mean accuracy over architectures, percent."""
        return statistics.fmean(row.mean for row in self.rows if row.images == images)

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        rows = [{**asdict(row), "mean": row.mean, "std": row.std, "n": row.n} for row in self.rows]
        return {
            "protocol": self.protocol.model_dump(mode="json"),
            "rows": rows,
            "test_images": self.test_images,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
        }


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
    seed: int = 0,
    registry: Registry | None = None,
    on_progress: Progress = lambda _: None,
) -> Evaluation:
    """Train networks on a distilled set, and on as many random real images, and test them.

    Repeat i of a row uses initial weights, image order and augmentation from the stream (seed, network, i), the same for both
    kinds of images; each repeat of the random-real row draws other images.

    Args:
        distilled: has `images` (N, C, H, W), normalised, and `labels` (N,) or (N, K); a `DistilledSet` does.
        networks: architectures; default: the protocol's.
        repeats: networks a row; default: the protocol's.
        random_real: whether the rows of random real images stand beside.
        on_progress: told in words what is being trained.

    Raises:
        UsageError: an unknown protocol or network.
    """
    started = time.perf_counter()
    recipe = get_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen = tuple(networks) or recipe.networks
    repeats = repeats or recipe.repeats
    rows = []
    for network in chosen:
        builder = _Builder(network, task, recipe, seed, registry)
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
    return Evaluation(recipe, tuple(rows), sum(task.test.counts()), seed, time.perf_counter() - started)


@dataclass(frozen=True)
class _Builder:
    network: str
    task: Task
    protocol: Protocol
    seed: int
    registry: Registry | None

    def test(self, images: Tensor, labels: Tensor, repeat: int) -> float:
        rng = stream(self.seed, "evaluation", self.network, repeat)
        task, device = self.task, self.task.device
        network = get_network(
            self.network,
            rng=rng,
            device=device,
            registry=self.registry,
            channels=task.channels,
            image_size=task.image_size,
            num_classes=task.num_classes,
            **self.protocol.network_settings.get(self.network, {}),
        )
        rate = self.protocol.rate(self.network)
        return accuracy(train(network, images.to(device), labels.to(device), self.protocol, rate, rng), task)


def _random_real(labels: Tensor, task: Task, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
    """As many real images of each class as the distilled set has (soft labels: of the likeliest class)."""
    rng = stream(seed, "random real", repeat)
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    counts = hard.bincount(minlength=task.num_classes).tolist()
    images = torch.cat([task.real_images(index, count, rng) for index, count in enumerate(counts)])
    return images, torch.arange(task.num_classes).repeat_interleave(torch.tensor(counts))

"""What statistics are made of: the accuracies of one configuration at one seed of the distillation.

A configuration is a generator, an objective, a data set, a number of images per class and the settings that a grid varies.
Several networks of an architecture, trained on one distilled set, are repeats within that seed: they enter as their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Averages over architectures: those that the distillation used, the others, their difference, all of them.
SEEN, UNSEEN, GAP, AVERAGE = "seen", "unseen", "gap", "average"
AVERAGES = (SEEN, UNSEEN, GAP, AVERAGE)


@dataclass(frozen=True)
class SeedResult:
    """One configuration at one seed.

    Attributes:
        images_per_class: synthetic images of each class.
        asked: images per class on whose terms results are compared; None: `images_per_class`.
        seed: of the distillation and of its evaluation. Results with the same seed are paired: they start from the same real
            images and train networks from the same initial weights.
        accuracies: by architecture, in percent, one a trained network.
        seen: the architectures that the distillation used; those that were not evaluated as well.
        settings: what the grid varies besides, by dotted path, such as `generator.options.steps`.
        correct: by architecture, whether each trained network is right about each test image: bool (networks, test images);
            empty where that was not kept.
        test_groups: (test images,), the group of each, such as its artist; None: each image is a group of its own.
        diverged: by architecture, how many of its networks diverged, where some did.
        numbers_per_class: learned numbers that are stored for each class; None where that is not known.
        start: what the images start from; None where that is not known.
        seconds_per_step, seconds: time of a step, and of all steps; None where that is not known.
        peak_memory: MiB; None where that is not known.

    Raises:
        ValueError: `correct` or `test_groups` do not fit the accuracies.
    """

    generator: str
    objective: str
    data: str
    images_per_class: int
    seed: int
    accuracies: Mapping[str, tuple[float, ...]]
    seen: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)
    correct: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict, compare=False, repr=False)
    test_groups: NDArray[np.integer[Any]] | None = field(default=None, compare=False, repr=False)
    numbers_per_class: int | None = None
    start: str | None = None
    seconds_per_step: float | None = None
    seconds: float | None = None
    peak_memory: float | None = None
    asked: int | None = None
    diverged: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {right.shape[-1] for right in self.correct.values()}
        if self.test_groups is not None:
            lengths.add(len(self.test_groups))
        if len(lengths) > 1:
            raise ValueError(f"numbers of test images differ: {sorted(lengths)}")
        for network, right in self.correct.items():
            if not np.allclose(100 * right.mean(-1), self.accuracies[network], rtol=0, atol=1e-6):
                raise ValueError(f"the accuracies of {network} are not those of its test images")

    def value(self, measure: str) -> float | None:
        """Compute an average over architectures, or the mean of one, in percent; None where a part of it is missing.

        Args:
            measure: one of `AVERAGES`, or an architecture.
        """
        parts = weights(measure, self.accuracies, self.seen)
        return sum(weight * fmean(self.accuracies[name]) for name, weight in parts.items()) if parts else None

    def by_image(self, measure: str) -> NDArray[np.float64] | None:
        """Compute what each test image gives to `value`, their mean: (test images,), in percent; None where it was not kept."""
        parts = weights(measure, self.accuracies, self.seen)
        if not parts or not set(parts) <= set(self.correct):
            return None
        total = np.zeros(next(iter(self.correct.values())).shape[-1])
        for name, weight in parts.items():
            total += weight * 100 * self.correct[name].mean(0)
        return total


def weights(measure: str, networks: Mapping[str, Any], seen: frozenset[str]) -> dict[str, float]:
    """Choose the weight of each architecture in a measure; none where the measure cannot be formed.

    >>> weights("gap", {"ConvNet": (), "AlexNet": (), "ViT": ()}, frozenset({"ConvNet"}))
    {'AlexNet': 0.5, 'ViT': 0.5, 'ConvNet': -1.0}
    """
    if measure == GAP:
        inside, outside = weights(SEEN, networks, seen), weights(UNSEEN, networks, seen)
        return {**outside, **{name: -weight for name, weight in inside.items()}} if inside and outside else {}
    chosen = {
        SEEN: [name for name in networks if name in seen],
        UNSEEN: [name for name in networks if name not in seen],
        AVERAGE: list(networks),
    }.get(measure, [name for name in networks if name == measure])
    return {name: 1 / len(chosen) for name in chosen}

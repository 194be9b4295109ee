"""The rows of a grid as they are computed: results gathered by configuration, means over data sets, and their pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from ld3m_plugin.comparison.paired import Estimate, estimate
from ld3m_plugin.comparison.seed_results import SeedResult, weights
from ld3m_plugin.errors import UsageError

#: Settings of these parts belong to a generator: rows are compared with a baseline whatever their values.
_OF_GENERATOR = ("generator.", "optimizer.")
_FIELDS = ("generator", "objective", "data", "images_per_class")


@dataclass(frozen=True, eq=False)
class Cell:
    """A configuration: its results by seed, on one data set or on each of several."""

    parts: tuple[Mapping[int, SeedResult], ...]

    @cached_property
    def first(self) -> SeedResult:
        """Any of the results: they differ in seed and data alone."""
        return next(iter(self.parts[0].values()))

    @property
    def data(self) -> str:
        """The data set, or how many there are."""
        return self.first.data if len(self.parts) == 1 else f"mean of {len(self.parts)} data sets"

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every data set has, in ascending order."""
        return tuple(sorted(set.intersection(*(set(part) for part in self.parts))))

    @property
    def results(self) -> list[SeedResult]:
        """All results of `seeds`, data set by data set."""
        return [part[seed] for part in self.parts for seed in self.seeds]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What tells the configuration from others, settings included."""
        named = {name: getattr(self.first, name) for name in _FIELDS}
        return {**named, "data": self.data, **self.first.settings}

    def fits(self, named: Mapping[str, Any]) -> bool:
        """Whether the configuration has the facts that name a baseline."""
        return all(name in self.facts and self.facts[name] == value for name, value in named.items())

    def terms(self, free: Iterable[str]) -> dict[str, Any]:
        """The facts that two rows must share: those that are not free."""
        facts = self.facts if self.first.asked is None else {**self.facts, "images_per_class": self.first.asked}
        return {name: value for name, value in facts.items() if name not in free}

    def values(self, measure: str) -> dict[int, float]:
        """One number a seed, the mean over data sets, where all of them have the measure over the same architectures."""
        by_seed = {seed: [part[seed].value(measure) for part in self.parts] for seed in self.seeds}
        return {
            seed: fmean(v for v in values if v is not None) for seed, values in by_seed.items() if None not in values
        }

    def diverged(self, measure: str) -> int:
        """How many trained networks of a measure diverged, over all seeds and data sets."""
        return sum(
            count
            for result in self.results
            for network, count in result.diverged.items()
            if weights(measure, result.accuracies, result.seen).get(network)
        )


def of_generator(result: SeedResult) -> dict[str, Any]:
    """The settings of a result that belong to its generator."""
    return {path: value for path, value in result.settings.items() if path.startswith(_OF_GENERATOR)}


def gather(results: Sequence[SeedResult]) -> list[Cell]:
    """Gather results by configuration, and add the means over data sets.

    Raises:
        UsageError: two results of one configuration and seed.
    """
    parts: dict[tuple[Any, ...], dict[str, dict[int, SeedResult]]] = {}
    for result in results:
        key = (result.generator, result.objective, result.images_per_class, _frozen(result.settings))
        seeds = parts.setdefault(key, {}).setdefault(result.data, {})
        if result.seed in seeds:
            raise UsageError(
                f"{result.generator} with {result.objective} on {result.data} has two results at seed {result.seed}: "
                "leave one out, or name the setting that differs"
            )
        seeds[result.seed] = result
    order = dict.fromkeys(
        (result.generator, result.objective, result.images_per_class, _frozen(result.settings), result.data)
        for result in results
    )
    single = [Cell((parts[key[:-1]][key[-1]],)) for key in order]
    all_data = set().union(*(by_data for by_data in parts.values()))
    means = [
        Cell(tuple(by_data[data] for data in sorted(by_data)))
        for by_data in parts.values()
        if len(all_data) > 1 and set(by_data) == all_data
    ]
    return single + [cell for cell in means if cell.seeds and same_networks(cell.results)]


def _frozen(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((path, repr(value)) for path, value in settings.items()))


def same_networks(results: Sequence[SeedResult]) -> bool:
    """Whether all results have the same architectures, seen and unseen: only then is a mean over them one thing."""
    return len({(frozenset(result.accuracies), result.seen & set(result.accuracies)) for result in results}) == 1


def baseline_of(cell: Cell, bases: Sequence[Cell], named: Mapping[str, Any]) -> Cell | None:
    """Find the baseline on the terms of a row; None where it has no result on them.

    Raises:
        UsageError: several rows are.
    """
    free = set(named)
    if "generator" in named:
        free |= {name for one in (cell, *bases) for name in one.facts if name.startswith(_OF_GENERATOR)}
    if not any(base.first.objective for base in bases):  # they match nothing: the baseline of every objective
        free |= {name for one in (cell, *bases) for name in one.facts if name.startswith("objective")}
    fitting = [base for base in bases if base.terms(free) == cell.terms(free)]
    if len(fitting) > 1:  # several settings of the baseline's own: the one with those of the row
        fitting = [base for base in fitting if base.terms(named) == cell.terms(named)]
        if not fitting:
            raise UsageError(f"several rows are the baseline {said(named)}: name its settings as well")
    return fitting[0] if fitting else None


def said(named: Mapping[str, Any]) -> str:
    """What names a baseline, for a message."""
    return ", ".join(f"{name}={value}" for name, value in named.items())


def paired_estimate(cell: Cell, base: Cell, measure: str) -> Estimate | None:
    """Estimate the paired difference over the seeds that both have; None without any, or if their architectures differ."""
    seeds = [seed for seed in cell.seeds if seed in base.seeds]
    pairs = [[(one[seed], other[seed]) for seed in seeds] for one, other in zip(cell.parts, base.parts, strict=True)]
    compared = [
        frozenset(weights(measure, result.accuracies, result.seen).items())
        for part in pairs
        for pair in part
        for result in pair
    ]
    if not compared or not compared[0] or len(set(compared)) > 1:
        return None
    ours, theirs = cell.values(measure), base.values(measure)
    images = [_image_differences(part, measure) for part in pairs]
    known = [(1 / len(pairs), *found) for found in images if found is not None]
    return estimate([ours[seed] - theirs[seed] for seed in seeds], known if len(known) == len(pairs) else ())


def _image_differences(pairs: Sequence[tuple[SeedResult, SeedResult]], measure: str) -> tuple[Any, Any] | None:
    """Differences by seed and test image (S, test images), and the groups; None where a seed lacks them or has other groups."""
    import numpy as np

    both = [(one.by_image(measure), other.by_image(measure)) for one, other in pairs]
    kept = [(one, other) for one, other in both if one is not None and other is not None]
    if len(kept) < len(both) or len({values.shape for pair in kept for values in pair}) > 1:
        return None
    groups = [result.test_groups for pair in pairs for result in pair]
    if len({None if one is None else one.tobytes() for one in groups}) > 1:
        return None
    return np.stack([one - other for one, other in kept]), groups[0]

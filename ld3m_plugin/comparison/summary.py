"""The summary of a grid: for each configuration its accuracies over seeds, and its paired difference to a baseline.

- A cell is mean and sample standard deviation over seeds of the distillation; networks trained at one seed enter as their mean.
  Tables of GLaD and LD3M differ: their deviation is over networks trained on one distilled set, with divisor n.
- `seen` and `unseen` are the means over the architectures that the distillation used and over the others, with equal weights:
  `unseen` is the cell of the cross-architecture tables of GLaD and LD3M. `gap` is unseen minus seen, `average` is over all.
- With several data sets each configuration that has results on all of them gets a row of its own, its mean over data sets with
  equal weights: "All" of those tables. Their deviation of "All" is the mean of the cells' deviations; here it is that of the
  seeds' means.
- The number of questions is the number of differences that can be tested, over all rows and measures. P values are corrected by
  Holm's procedure, and a difference is marked only where its corrected p value is below the level. Two intervals are given:
  `interval` covers one difference alone, `simultaneous` all of them at once (Bonferroni). Holm marks more than the second would:
  a marked difference may have a simultaneous interval that reaches 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, mean, stdev
from typing import Any, Self

from ld3m_plugin.comparison.cells import Cell, baseline_of, gather, paired_estimate, said, same_networks
from ld3m_plugin.comparison.paired import Estimate, holm, seeds_needed
from ld3m_plugin.comparison.seed_results import AVERAGE, AVERAGES, UNSEEN, SeedResult, weights
from ld3m_plugin.errors import UsageError, nearest


@dataclass(frozen=True)
class Statistic:
    """Mean and sample standard deviation (divisor n - 1; None for n = 1) over n seeds, in percent and percentage points.

    Attributes:
        diverged: how many of the trained networks diverged; their accuracies are in the mean.
    """

    mean: float
    std: float | None
    n: int
    diverged: int = 0

    @classmethod
    def of(cls, values: Sequence[float], diverged: int = 0) -> Self | None:
        """Summarise one number a seed; None without any."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values), diverged)


@dataclass(frozen=True)
class Difference:
    """The paired difference of a row to the baseline.

    Attributes:
        estimate: mean, deviation and number of paired seeds.
        interval: of this difference alone; None without a test.
        simultaneous: of all differences of the summary at once; None without a test.
        p: of this difference alone; None without a test: a single seed, or seeds without any spread.
        corrected_p: by Holm's procedure over all questions.
        marked: whether `corrected_p` is below the level.
        seeds_for_a_point: how many paired seeds would find one percentage point with power 0.8 at level 0.05; None where the
            seeds have no spread.
    """

    estimate: Estimate
    interval: tuple[float, float] | None = None
    simultaneous: tuple[float, float] | None = None
    p: float | None = None
    corrected_p: float | None = None
    marked: bool = False
    seeds_for_a_point: int | None = None


@dataclass(frozen=True)
class SummaryRow:
    """One configuration, over its seeds.

    Attributes:
        data: a data set, or `mean of K data sets`.
        networks: by architecture.
        averages: by measure, those of `AVERAGES` that can be formed.
        differences: by measure; none for the baseline, and where the baseline has no result on the same terms.
        numbers_per_class, start: None where seeds differ or do not say.
        seconds_per_step, seconds: means over the seeds that say; peak_memory: their maximum, MiB. None where none says.
    """

    generator: str
    objective: str
    data: str
    images_per_class: int
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    networks: Mapping[str, Statistic]
    averages: Mapping[str, Statistic]
    is_baseline: bool
    differences: Mapping[str, Difference] = field(default_factory=dict)
    numbers_per_class: int | None = None
    start: str | None = None
    seconds_per_step: float | None = None
    seconds: float | None = None
    peak_memory: float | None = None


@dataclass(frozen=True)
class Summary:
    """All rows of a grid.

    Attributes:
        measures: what is compared with the baseline.
        baseline: what names the baseline; empty without one.
        level: the chance of any wrong mark, and the share that an interval may miss.
        questions: number of differences that were tested.
    """

    rows: tuple[SummaryRow, ...]
    measures: tuple[str, ...]
    baseline: Mapping[str, Any]
    level: float
    questions: int

    @property
    def networks(self) -> tuple[str, ...]:
        """All architectures, in the order of the rows."""
        return tuple(dict.fromkeys(network for row in self.rows for network in row.networks))

    @property
    def settings(self) -> tuple[str, ...]:
        """Dotted paths of the settings that rows name, in the order of the rows."""
        return tuple(dict.fromkeys(path for row in self.rows for path in row.settings))


def summarise(
    results: Iterable[SeedResult],
    baseline: str | Mapping[str, Any] | None = None,
    measures: Sequence[str] | None = None,
    level: float = 0.05,
) -> Summary:
    """Summarise a grid.

    Args:
        results: in any order; rows come in the order of their first result.
        baseline: a generator, or values of the fields `generator`, `objective`, `images_per_class` and of settings. Each other
            row is compared with the baseline on the same terms: what the baseline does not name is the same for both. Where it
            names a generator, settings of the generator and its optimizer may differ. None: nothing is compared.
        measures: what is compared, of `AVERAGES` or architectures: each is one more question a row. Choose before looking at
            numbers. Default: `unseen` if any result has an unseen architecture, else `average`.

    Raises:
        UsageError: two results of one configuration and seed; a baseline that no row or several rows fit; an unknown measure.
    """
    found = list(results)
    cells = gather(found)
    named = {"generator": baseline} if isinstance(baseline, str) else dict(baseline or {})
    networks = dict.fromkeys(network for result in found for network in result.accuracies)
    if measures is None:
        measures = (UNSEEN,) if any(weights(UNSEEN, r.accuracies, r.seen) for r in found) else (AVERAGE,)
    for measure in measures:
        if measure not in (*AVERAGES, *networks):
            raise UsageError(f"there is no measure {measure!r}; {nearest(measure, (*AVERAGES, *networks))}")
    if "data" in named:
        raise UsageError("a data set cannot be a baseline: other test images are no pairs")
    bases = [cell for cell in cells if named and cell.fits(named)]
    if named and cells and not bases:
        raise UsageError(f"no row is the baseline {said(named)}: name one that the grid has")
    rows = [_row(cell, cell in bases) for cell in cells]
    estimates = {
        (index, measure): found_difference
        for index, cell in enumerate(cells)
        if named and cell not in bases
        for base in [baseline_of(cell, bases, named)]
        if base is not None
        for measure in measures
        if (found_difference := paired_estimate(cell, base, measure)) is not None
    }
    differences, questions = _tested(estimates, level)
    rows = [
        replace(row, differences={m: differences[i, m] for m in measures if (i, m) in differences})
        for i, row in enumerate(rows)
    ]
    return Summary(tuple(rows), tuple(measures), named, level, questions)


def _row(cell: Cell, is_baseline: bool) -> SummaryRow:
    first, results = cell.first, cell.results
    networks = dict.fromkeys(network for result in results for network in result.accuracies)
    # Averages over other architectures at another seed would be numbers of another kind.
    measures = AVERAGES if same_networks(results) else ()
    found = {
        measure: Statistic.of(list(cell.values(measure).values()), cell.diverged(measure))
        for measure in (*networks, *measures)
    }
    known = {measure: statistic for measure, statistic in found.items() if statistic is not None}
    costs = {name: _known(results, name) for name in ("seconds_per_step", "seconds", "peak_memory")}
    return SummaryRow(
        *(first.generator, first.objective, cell.data, first.images_per_class, first.settings, cell.seeds),
        networks={name: known[name] for name in networks if name in known},
        averages={name: known[name] for name in measures if name in known},
        is_baseline=is_baseline,
        numbers_per_class=_common(results, "numbers_per_class"),
        start=_common(results, "start"),
        seconds_per_step=mean(costs["seconds_per_step"]) if costs["seconds_per_step"] else None,
        seconds=mean(costs["seconds"]) if costs["seconds"] else None,
        peak_memory=max(costs["peak_memory"], default=None),
    )


def _known(results: Sequence[SeedResult], name: str) -> list[float]:
    return [value for result in results if (value := getattr(result, name)) is not None]


def _common(results: Sequence[SeedResult], name: str) -> Any:
    values = {getattr(result, name) for result in results}
    return values.pop() if len(values) == 1 else None


def _tested(
    estimates: Mapping[tuple[int, str], Estimate], level: float
) -> tuple[dict[tuple[int, str], Difference], int]:
    """Test all differences, and correct for their number."""
    p_values = {key: p for key, found in estimates.items() if (p := found.p_value()) is not None}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {
        key: Difference(
            found,
            interval=found.interval(level),
            simultaneous=found.interval(level / len(p_values)) if key in p_values else None,
            p=p_values.get(key),
            corrected_p=corrected.get(key),
            marked=corrected.get(key, 1.0) < level,
            seeds_for_a_point=seeds_needed(found.std) if found.std else None,
        )
        for key, found in estimates.items()
    }, len(p_values)

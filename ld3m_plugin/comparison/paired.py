"""Paired differences over seeds: interval, test, correction for the number of questions, and the seeds that one point needs.

The model of the difference of two rows at seed s and test image i is mean + seed_s + image_i + rest_si, both effects random:
another user has other seeds and other test images. All networks that a seed trains are part of that seed. The variance of the
mean is estimated as the sum of two parts, as in a two-way analysis of variance:

- seeds: the variance of the S seeds' differences over S, with S - 1 degrees of freedom. It holds the rest as well.
- test images: (mean square of images - mean square of the rest) / (S times the number of images), at least 0.

Where test images come in groups (one artist, one device), the group takes the place of the image. Classes are not held fixed, so
a difference between classes counts as one between images: intervals are a little wide.

The critical value is the mean of the parts' own t values, weighted by the parts (Cochran and Cox, Experimental Designs, 1950, for
two means of unequal variance). With 3 seeds it covers 93 to 97.5 % where 95 % is asked for, whichever part is the larger
(`tests/host/comparison/test_coverage.py`). The percentile bootstrap over seeds and a t interval over seeds alone are too short,
and Satterthwaite's degrees of freedom fall below 1 where the parts are near 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Relative spread of seeds below which they count as equal: what rounding leaves.
_NO_SPREAD = 1e-9


@dataclass(frozen=True)
class Part:
    """A part of the variance of a mean difference, and the degrees of freedom that it was estimated with."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Estimate:
    """The mean of paired differences.

    Attributes:
        mean: percentage points.
        std: sample standard deviation over seeds (divisor n - 1); None for n = 1.
        n: number of seeds.
        parts: of the variance of the mean; none for n = 1.
        has_images: whether one of them is of test images.
    """

    mean: float
    std: float | None
    n: int
    parts: tuple[Part, ...]
    has_images: bool

    @property
    def testable(self) -> bool:
        """Whether there is a spread to test against: one seed has none, and seeds that agree to the last digit have none."""
        return bool(self.parts) and sum(part.variance for part in self.parts) > 0

    def interval(self, level: float = 0.05) -> tuple[float, float] | None:
        """Compute the two-sided confidence interval that misses with probability `level`; None without a spread."""
        if not self.testable:
            return None
        half = _critical(self.parts, level) * _error(self.parts)
        return self.mean - half, self.mean + half

    def p_value(self) -> float | None:
        """Compute the level at which the interval just reaches 0; None without a spread."""
        if not self.testable:
            return None
        from scipy.optimize import brentq
        from scipy.special import stdtr

        reached = abs(self.mean) / _error(self.parts)
        # The p value of each part's own t distribution: the one that is looked for lies between them.
        ends = sorted(max(2 * float(stdtr(part.freedom, -reached)), 1e-300) for part in self.parts if part.variance > 0)
        if ends[0] == ends[-1]:
            return ends[0]
        logarithm = brentq(
            lambda x: _critical(self.parts, math.exp(x)) - reached, math.log(ends[0]) - 1e-9, math.log(ends[-1]) + 1e-9
        )
        return min(1.0, math.exp(logarithm))


def estimate(
    differences: Sequence[float], images: Sequence[tuple[float, NDArray[np.float64], NDArray[Any] | None]] = ()
) -> Estimate:
    """Estimate the mean of paired differences and the parts of its variance.

    Args:
        differences: one a seed, percentage points.
        images: for each data set that the differences are a weighted sum over: its weight, the differences by seed and test
            image (S, test images), and the group of each image or None. None of them: the interval is of these test images alone.

    Raises:
        ValueError: no difference.
    """
    mean, count = fmean(differences), len(differences)
    if count < 2:
        return Estimate(mean, None, count, (), has_images=False)
    spread = variance(differences)
    if math.sqrt(spread) <= _NO_SPREAD * max(1.0, *map(abs, differences)):
        spread = 0.0
    parts = [Part(spread / count, count - 1)]
    by_groups = [(weight, _by_group(values, groups)) for weight, values, groups in images]
    # One group alone has no spread that could be estimated.
    has_images = bool(by_groups) and all(values.shape[1] > 1 for _, values in by_groups)
    if has_images:
        parts += [Part(weight**2 * _image_variance(values), values.shape[1] - 1) for weight, values in by_groups]
    return Estimate(mean, math.sqrt(spread), count, tuple(parts), has_images)


def _by_group(values: NDArray[np.float64], groups: NDArray[Any] | None) -> NDArray[np.float64]:
    """Gather images (S, images) into groups (S, G) whose plain mean is the mean over images: groups may differ in size."""
    if groups is None:
        return values
    _, which = np.unique(groups, return_inverse=True)
    count, mean = int(which.max()) + 1, float(values.mean())
    sums = np.stack([np.bincount(which, weights=row - mean, minlength=count) for row in values])
    gathered: NDArray[np.float64] = mean + sums * (count / values.shape[1])
    return gathered


def _image_variance(values: NDArray[np.float64]) -> float:
    """The part of test images in the variance of the mean of (S, G): moments of the two-way analysis of variance."""
    seeds, groups = (int(length) for length in values.shape)
    of_images = values.mean(0)
    images = seeds * float(of_images.var(ddof=1))
    rest = values - of_images - values.mean(1, keepdims=True) + values.mean()
    remainder = float((rest**2).sum()) / ((seeds - 1) * (groups - 1))
    return max(0.0, images - remainder) / (seeds * groups)


def _error(parts: Sequence[Part]) -> float:
    return math.sqrt(math.fsum(part.variance for part in parts))


def _critical(parts: Sequence[Part], level: float) -> float:
    """How many standard errors the interval reaches."""
    from scipy.special import stdtrit

    reaches = [part.variance * -float(stdtrit(part.freedom, level / 2)) for part in parts]
    return math.fsum(reaches) / math.fsum(part.variance for part in parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for the number of questions, so that the chance of any wrong mark is at most the level.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979; it holds for dependent tests.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, which in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[which]))
        corrected[which] = largest
    return corrected


def seeds_needed(std: float, *, difference: float = 1.0, power: float = 0.8, level: float = 0.05) -> int:
    """Compute how many paired seeds a two-sided t test needs to find `difference` with probability `power`.

    It speaks of these very test images: more seeds do not make the test set larger. A `std` from three seeds is itself rough.

    Args:
        std: standard deviation of the paired differences over seeds, percentage points; above 0.
    """
    enough = 2
    while _power(enough, difference / std, level) < power:
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if _power(middle, difference / std, level) >= power else (middle, enough)
    return enough


def _power(seeds: int, effect: float, level: float) -> float:
    """The power of a paired t test at a difference of `effect` standard deviations."""
    from scipy.stats import nct, t

    freedom, shift = seeds - 1, effect * math.sqrt(seeds)
    critical = float(t.isf(level / 2, freedom))
    with np.errstate(all="ignore"):  # older versions of scipy divide by zero on the way
        # The other tail is below 1e-5 from a shift of 3 on, and NaN far out. Beyond 50 all power is above 0.9999.
        other = float(nct.cdf(-critical, freedom, shift)) if shift < 3 else 0.0
        return float(nct.sf(critical, freedom, min(shift, 50.0))) + other

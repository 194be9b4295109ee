"""Axes of plots: round ticks, and the place of a value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Axis:
    """A scale from values to places on the page.

    Attributes:
        low, high: values at its ends; both positive where it is logarithmic.
        start, end: their places, pixels.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, logarithmic: bool = False, floor: float | None = None
    ) -> Self:
        """Choose a scale that holds all values, with round ends.

        Args:
            floor: a value that the scale does not go below.
        """
        found = list(values) or [0.0, 1.0]
        low, high = min(found), max(found)
        if logarithmic and low > 0:
            return cls(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.0001)), start, end, True)
        step = _round_step((high - low) or abs(high) or 1.0)
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        if low == high:
            low, high = low - step, high + step
        return cls(low if floor is None else max(floor, low), high, start, end)

    def at(self, value: float) -> float:
        """The place of a value, pixels, to a tenth."""
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    @property
    def values(self) -> list[float]:
        """The values of at most seven marks."""
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 4))]
        step = _round_step(self.high - self.low)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts of the marks."""
        return [(self.at(value), readable(value)) for value in self.values]


def _round_step(span: float) -> float:
    """The distance of marks: 1, 2 or 5 times a power of ten, three to seven of them over `span`."""
    power = 10.0 ** math.floor(math.log10(span / 3))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= span / 3 * 1.0001)


def readable(value: float) -> str:
    """A number with at most four digits that count.

    >>> readable(0.1 + 0.2), readable(12345.6), readable(2e-7)
    ('0.3', '12,346', '2e-07')
    """
    if abs(value) < 1e-12:
        return "0"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"

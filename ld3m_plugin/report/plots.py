"""Plots as the places of what is drawn; templates draw them as SVG, so that texts are escaped as everywhere.

A plot is 360 units wide: at that width a phone shows its texts at their size. Series differ in shape or dashes, not in colour
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ld3m_plugin.report.axis import Axis, readable

WIDTH = 360
_MOST_POINTS = 150
_MOST_LINES = 8


@dataclass(frozen=True)
class Value:
    """A value with what is known of its uncertainty.

    Attributes:
        kind: place of its kind in the legend.
        low, high: ends of its interval or deviation; None without one.
        text: the number as it is written beside the mark.
    """

    mean: float
    low: float | None
    high: float | None
    kind: int
    text: str


@dataclass(frozen=True)
class Mark:
    """A `Value` at its place."""

    y: float
    x: float
    low: float | None
    high: float | None
    kind: int
    text: str


@dataclass(frozen=True)
class DotPlot:
    """Values of several rows on one scale.

    Attributes:
        rows: label, its y, and the marks below it.
        kinds: names for the legend.
        description: all numbers, for those who do not see it.
        line_x: where a line is drawn from top to bottom; None without one.
    """

    key: str
    title: str
    description: str
    height: int
    rows: tuple[tuple[str, float, tuple[Mark, ...]], ...]
    ticks: tuple[tuple[float, str], ...]
    kinds: tuple[str, ...]
    text_x: float
    line_x: float | None = None


@dataclass(frozen=True)
class LinePlot:
    """Series over steps.

    Attributes:
        lines: name and points `x,y x,y`; a single point is drawn as a dot.
        note: how points were put together, or "".
    """

    key: str
    title: str
    description: str
    lines: tuple[tuple[str, str, bool], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    note: str
    height: int = 210


def dot_plot(
    key: str,
    title: str,
    rows: Iterable[tuple[str, Sequence[Value]]],
    kinds: Sequence[str],
    what: str,
    line_at: float | None = None,
) -> DotPlot | None:
    """Place values in rows; None without any.

    Args:
        key: unique in the page.
        what: the interval that is drawn, for the description.
        line_at: a value that the scale holds, at which a line is drawn.
    """
    found = [(label, values) for label, values in rows if values]
    if not found:
        return None
    every = [end for _, values in found for value in values for end in (value.low, value.mean, value.high)]
    # Numbers stand at the right, 6.5 units a character: the scale ends before them.
    text_x = WIDTH - 4 - 6.5 * max(len(value.text) for _, values in found for value in values)
    held = [*_known(every), *_known([line_at])]
    axis = Axis.over(held, 12, text_x - 14, floor=0 if min(held) >= 0 else None)
    y, placed = 8.0, []
    for label, values in found:
        y += 14
        label_y, marks = y, []
        for value in values:
            y += 16
            ends = [None if end is None else axis.at(max(end, axis.low)) for end in (value.low, value.high)]
            marks.append(Mark(y, axis.at(value.mean), ends[0], ends[1], value.kind, value.text))
        placed.append((_cut(label), label_y, tuple(marks)))
        y += 8
    said = [
        f"{label}: " + ", ".join(f"{kinds[value.kind]} {value.text}" for value in values) for label, values in found
    ]
    return DotPlot(
        key,
        title,
        f"{what}. " + "; ".join(said) + ".",
        int(y + 26),
        tuple(placed),
        tuple(axis.ticks),
        tuple(kinds),
        text_x,
        None if line_at is None else axis.at(line_at),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def line_plot(
    key: str, title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str = ""
) -> LinePlot | None:
    """Place series of (step, value); None without points. A wide range of positive values is drawn on a logarithmic scale."""
    shown = {name: points for name, points in list(series.items())[:_MOST_LINES] if points}
    if not shown:
        return None
    thin = {name: _thinned(points) for name, points in shown.items()}
    values = [value for points in thin.values() for _, value in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > 100
    y = Axis.over(values, 176, 12, logarithmic=logarithmic)
    steps = [step for points in thin.values() for step, _ in points]
    x = Axis(min(steps), max(steps), 52, WIDTH - 12) if min(steps) < max(steps) else Axis.over(steps, 52, WIDTH - 12)
    lines = [
        (name, " ".join(f"{x.at(step)},{y.at(value)}" for step, value in points), len(points) == 1)
        for name, points in thin.items()
    ]
    said = [
        f"{name}: {readable(points[0][1])} at step {readable(points[0][0])}"
        + (f", {readable(points[-1][1])} at step {readable(points[-1][0])}" if len(points) > 1 else "")
        for name, points in shown.items()
    ]
    notes = [f"{len(shown)} of {len(series)} series"] * (len(shown) < len(series)) + ["logarithmic"] * logarithmic
    most = max(map(len, shown.values()))
    notes += [f"each point is the mean of {-(-most // _MOST_POINTS)} steps"] * (most > _MOST_POINTS)
    return LinePlot(
        key,
        title,
        f"{title} over steps{f', {unit}' if unit else ''}. " + "; ".join(said) + ".",
        tuple(lines),
        tuple(_x_ticks(x)),
        tuple(y.ticks),
        "; ".join(notes),
    )


def _x_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Round steps between the first and the last one, and these two where no round one is near."""
    inside = [value for value in Axis.over((axis.low, axis.high), 0, 1).values if axis.low <= value <= axis.high]
    return [(axis.at(value), readable(value)) for value in inside or (axis.low, axis.high)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(step for step, _ in group), fmean(value for _, value in group)) for group in groups]


def _cut(label: str, most: int = 46) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"

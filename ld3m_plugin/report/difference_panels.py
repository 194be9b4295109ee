"""Forest plots of a comparison: paired differences to the baseline with their intervals, and a line at no difference."""

from __future__ import annotations

from ld3m_plugin.comparison.summary import Difference, Summary, SummaryRow
from ld3m_plugin.report.plain_text import named, short
from ld3m_plugin.report.plots import DotPlot, Value, dot_plot

_KINDS = ("corrected p below the level", "not told from no difference, or not tested")


def difference_panels(summary: Summary) -> list[DotPlot]:
    """Draw the differences of a summary, a plot for each data set, images per class and measure."""
    groups: dict[tuple[str, int], list[SummaryRow]] = {}
    for row in summary.rows:
        groups.setdefault((row.data, row.images_per_class), []).append(row)
    panels: list[DotPlot] = []
    for (data, images), rows in groups.items():
        for measure in summary.measures:
            found = [(_label(row), [_value(row.differences[measure])]) for row in rows if measure in row.differences]
            title = f"{short(measure, 40)} - {_baseline(summary)}, points"
            where = f" · {short(data, 40)}, {images} per class" if len(groups) > 1 else ""
            what = (
                f"{short(data, 40)}, {images} per class: paired difference to the baseline in percentage points with its "
                f"{100 * (1 - summary.level):g} % interval"
            )
            panel = dot_plot(f"difference{len(panels)}", title + where, found, _KINDS, what, line_at=0.0)
            if panel is not None:
                panels.append(panel)
    return panels


def _baseline(summary: Summary) -> str:
    return short(", ".join(str(value) for value in summary.baseline.values()), 60)


def _label(row: SummaryRow) -> str:
    return named(row.generator, row.objective, row.settings)


def _value(found: Difference) -> Value:
    mean = found.estimate.mean
    if found.interval is None:
        return Value(mean, None, None, 1, f"{mean:+.1f} (n={found.estimate.n})")
    low, high = found.interval
    return Value(mean, low, high, 0 if found.marked else 1, f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")

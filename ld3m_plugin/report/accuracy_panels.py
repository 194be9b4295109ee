"""Plots of accuracies of a comparison: one for each data set, images per class and architecture, with an interval a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ld3m_plugin.comparison.cells import Cell
from ld3m_plugin.comparison.paired import Estimate, estimate
from ld3m_plugin.comparison.seed_results import AVERAGE
from ld3m_plugin.comparison.summary import Summary
from ld3m_plugin.report.plain_text import named, short
from ld3m_plugin.report.plots import DotPlot, Value, dot_plot

_KINDS = (
    *("the distillation used this architecture", "it did not", "mean over all architectures"),
    "images that were not distilled",
)


def accuracy_panels(cells: Sequence[Cell], summary: Summary) -> list[DotPlot]:
    """Draw every configuration, random real images too, architecture by architecture: each panel compares like with like."""
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.first.images_per_class), []).append(cell)
    panels: list[DotPlot] = []
    for (data, images), members in groups.items():
        for measure in (AVERAGE, *summary.networks) if len(summary.networks) > 1 else summary.networks:
            rows = [(_label(cell), [value]) for cell in members if (value := _value(cell, measure, summary.level))]
            title = f"{'Mean over architectures' if measure == AVERAGE else short(measure, 40)}, %"
            what = (
                f"{short(data, 40)}, {images} per class: test accuracy in percent with its own {100 * (1 - summary.level):g} % "
                "interval, where there are several seeds"
            )
            where = f" · {short(data, 40)}, {images} per class" if len(groups) > 1 else ""
            panel = dot_plot(f"panel{len(panels)}", f"{title}{where}", rows, _KINDS, what)
            if panel is not None:
                panels.append(panel)
    return panels


def _label(cell: Cell) -> str:
    return named(cell.first.generator, cell.first.objective, cell.first.settings)


def _value(cell: Cell, measure: str, level: float) -> Value | None:
    found = accuracy_estimate(cell, measure)
    if found is None:
        return None
    interval = found.interval(level)
    kind = 3 if not cell.first.objective else 2 if measure == AVERAGE else 0 if measure in cell.first.seen else 1
    if interval is None:
        return Value(found.mean, None, None, kind, f"{found.mean:.1f} (n={found.n})")
    # The interval is symmetric; accuracies are not drawn below 0 or above 100.
    low, high = max(0.0, interval[0]), min(100.0, interval[1])
    return Value(found.mean, low, high, kind, f"{found.mean:.1f} [{interval[0]:.1f}, {interval[1]:.1f}]")


def accuracy_estimate(cell: Cell, measure: str) -> Estimate | None:
    """Estimate a mean accuracy over seeds, and over test images where every seed kept what its networks predicted.

    Args:
        measure: one of `AVERAGES`, or an architecture.
    """
    values = cell.values(measure)
    if not values:
        return None
    images = [_by_image(cell, part, measure, list(values)) for part in range(len(cell.parts))]
    known = [(1 / len(images), *found) for found in images if found is not None]
    return estimate(list(values.values()), known if len(known) == len(images) else ())


def _by_image(cell: Cell, part: int, measure: str, seeds: Sequence[int]) -> tuple[Any, Any] | None:
    """Accuracies by seed and test image (S, test images), and the groups; None where a seed lacks them or has others."""
    import numpy as np

    chosen = [cell.parts[part][seed] for seed in seeds]
    found = [values for result in chosen if (values := result.by_image(measure)) is not None]
    if len(found) < len(chosen) or len({values.shape for values in found}) > 1:
        return None
    groups = {None if result.test_groups is None else result.test_groups.tobytes() for result in chosen}
    return (np.stack(found), chosen[0].test_groups) if len(groups) == 1 else None

"""Plots over the steps of a comparison: losses, and accuracies where rows were evaluated between steps."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ld3m_plugin.comparison.manifest import Manifest, ManifestRow
from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.report.metric_lines import Points, read_metrics
from ld3m_plugin.report.plain_text import named, short
from ld3m_plugin.report.plots import LinePlot, line_plot

_MOST_LINES = 8


def configuration(row: ManifestRow) -> str:
    """What a row is, without its seed, as a title."""
    return named(row.generator, row.objective, row.varied, 80)


def by_configuration(rows: Sequence[ManifestRow]) -> list[list[ManifestRow]]:
    """The rows of each configuration, a seed each; random real images have no steps and no pictures."""
    found: dict[tuple[str, ...], list[ManifestRow]] = {}
    for row in rows:
        if row.kind != "random real":
            key = (row.generator, row.objective, row.data, repr(row.varied), str(row.settings.get("images_per_class")))
            found.setdefault(key, []).append(row)
    return list(found.values())


def loss_plots(manifest: Manifest) -> list[LinePlot]:
    """A plot for each configuration, a line for each seed."""
    plots = []
    for place, rows in enumerate(by_configuration(manifest.rows)):
        lines = {
            f"seed {row.seed}": read_metrics(manifest.run_folder(row)).numbers.get("loss", [])
            for row in rows[:_MOST_LINES]
        }
        plot = line_plot(f"loss{place}", f"Loss of {configuration(rows[0])}, {_terms(rows[0])}", lines)
        if plot is not None:
            plots.append(plot)
    return plots


def accuracy_plots(manifest: Manifest, rows: Sequence[ManifestRow], results: Sequence[SeedResult]) -> list[LinePlot]:
    """Draw mean accuracies over steps, of the architectures that distillations used, and of the others.

    A line is the mean over seeds and architectures of one configuration. It has the steps at which every seed was evaluated.

    Args:
        rows: finished ones.
        results: of these rows, in their order.
    """
    seen = {row.id: result.seen for row, result in zip(rows, results, strict=True)}
    evaluations = {row.id: read_metrics(manifest.run_folder(row)).accuracies for row in rows}
    terms: dict[str, list[list[ManifestRow]]] = {}
    for members in by_configuration(rows):
        terms.setdefault(_terms(members[0]), []).append(members)
    plots = []
    for place, (said, configurations) in enumerate(terms.items()):
        for used in (False, True):
            lines = {}
            for members in configurations:
                found = [
                    points
                    for row in members
                    for network, points in evaluations[row.id].items()
                    if (network in seen[row.id]) == used
                ]
                lines[configuration(members[0])] = _mean(found)
            evaluated = {name: points for name, points in lines.items() if len(points) > 1}
            kind = "used in the distillation" if used else "not used in the distillation"
            title = f"Accuracy, %, architectures {kind}, {said}"
            plot = line_plot(f"steps{place}{'seen' if used else 'unseen'}", title, evaluated)
            if plot is not None:
                plots.append(plot)
    return plots


def _mean(lines: Sequence[Points]) -> Points:
    """The mean of several lines (step, value); steps that one of them lacks are left out."""
    found = [dict(points) for points in lines]
    common = set.intersection(*map(set, found)) if found else set()
    return [(step, fmean(line[step] for line in found)) for step in sorted(common)]


def _terms(row: ManifestRow) -> str:
    return f"{short(row.data, 60)}, {row.images_per_class} per class"

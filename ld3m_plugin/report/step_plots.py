"""Plots over the steps of a comparison: losses, and accuracies where rows were evaluated between steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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

    A line is the mean over seeds and architectures of one configuration, at the steps at which all were evaluated. Seeds that
    lack an architecture are left out, and the line's name says how many are in.

    Args:
        rows: finished ones.
        results: of these rows, in their order.
    """
    seen = {row.id: result.seen for row, result in zip(rows, results, strict=True)}
    evaluations = {row.id: read_metrics(manifest.run_folder(row)).accuracies for row in rows}
    terms: dict[tuple[str, int], list[list[ManifestRow]]] = {}
    for members in by_configuration(rows):
        terms.setdefault((members[0].data, members[0].images_per_class), []).append(members)
    plots = []
    for place, configurations in enumerate(terms.values()):
        for used, said in ((False, "not used"), (True, "used")):
            lines: dict[str, Points] = {}
            for members in configurations:
                by_seed = [_of_kind(evaluations[row.id], seen[row.id], used=used) for row in members]
                name, points = _mean(by_seed)
                if len(points) > 1:
                    lines[_unlike(f"{configuration(members[0])}{name}", lines)] = points
            title = f"Accuracy, %, architectures {said} in the distillation, {_terms(configurations[0][0])}"
            plot = line_plot(f"steps{place}{'seen' if used else 'unseen'}", title, lines)
            if plot is not None:
                plots.append(plot)
    return plots


def _of_kind(accuracies: Mapping[str, Points], seen: frozenset[str], *, used: bool) -> dict[str, Points]:
    return {network: points for network, points in accuracies.items() if (network in seen) == used}


def _mean(by_seed: Sequence[Mapping[str, Points]]) -> tuple[str, Points]:
    """The mean over seeds and architectures at the steps that all have, and what the name says of seeds that are left out."""
    networks = {network for found in by_seed for network in found}
    whole = [found for found in by_seed if found.keys() == networks and networks]
    lines = [dict(points) for found in whole for points in found.values()]
    common = set.intersection(*map(set, lines)) if lines else set()
    name = f", {len(whole)} of {len(by_seed)} seeds" if len(whole) < len(by_seed) else ""
    return name, [(step, fmean(line[step] for line in lines)) for step in sorted(common)]


def _unlike(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where another line has it: long settings are cut."""
    names = (name, *(f"{name} ({number})" for number in range(2, len(taken) + 2)))
    return next(one for one in names if one not in taken)


def _terms(row: ManifestRow) -> str:
    return f"{short(row.data, 60)}, {row.images_per_class} per class"

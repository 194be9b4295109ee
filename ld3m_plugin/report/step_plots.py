"""Plots over the steps of a comparison: losses, and accuracies where rows were evaluated between steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from ld3m_plugin.comparison.manifest import Manifest, ManifestRow
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


def step_plots(manifest: Manifest, seen: Mapping[str, frozenset[str]]) -> tuple[list[LinePlot], list[LinePlot]]:
    """Draw accuracies and losses over steps; the records of each row are read once.

    Losses: a plot for each configuration, a line for each seed. Accuracies: a plot of the architectures that distillations used,
    and one of the others, for each data set and images per class. A line is the mean over seeds and architectures of one
    configuration, at the steps at which all were evaluated. Seeds that lack an architecture are left out, and the line's name
    says how many are in.

    Args:
        seen: the architectures that the distillation of each finished row used, by its identity.

    Returns:
        The plots of accuracies, and those of losses.
    """
    losses: list[LinePlot] = []
    terms: dict[tuple[str, int, bool], tuple[str, dict[str, Points]]] = {}
    for place, rows in enumerate(by_configuration(manifest.rows)):
        records = {row.id: read_metrics(manifest.run_folder(row)) for row in rows}
        lines = {f"seed {row.seed}": records[row.id].numbers.get("loss", []) for row in rows[:_MOST_LINES]}
        losses += _plot(f"loss{place}", f"Loss of {configuration(rows[0])}, {_terms(rows[0])}", lines)
        finished = [row for row in rows if row.id in seen]
        for used, said in ((False, "not used"), (True, "used")) if finished else ():
            title = f"Accuracy, %, architectures {said} in the distillation, {_terms(rows[0])}"
            _, drawn = terms.setdefault((rows[0].data, rows[0].images_per_class, used), (title, {}))
            name, points = _mean([_of_kind(records[row.id].accuracies, seen[row.id], used=used) for row in finished])
            if len(points) > 1:
                drawn[_unlike(f"{configuration(rows[0])}{name}", drawn)] = points
    accuracies = [plot for place, found in enumerate(terms.values()) for plot in _plot(f"steps{place}", *found)]
    return accuracies, losses


def _plot(key: str, title: str, lines: Mapping[str, Points]) -> list[LinePlot]:
    plot = line_plot(key, title, lines)
    return [] if plot is None else [plot]


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

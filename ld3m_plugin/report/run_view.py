"""What the report of a run shows, read from its folder. Files may be missing: a run that has not ended has no images yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ld3m_plugin.artefact.distilled_set import METADATA, DistilledSet
from ld3m_plugin.artefact.shown_images import MOST_SHOWN
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.evaluation.table import RANDOM_REAL, Row
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.report.embedded_images import Gallery, gallery
from ld3m_plugin.report.metric_lines import Metrics, read_metrics
from ld3m_plugin.report.plain_text import amount, fact, flat, number, short
from ld3m_plugin.report.plots import DotPlot, LinePlot, Value, dot_plot, line_plot
from ld3m_plugin.runs.folder import CONFIG, DISTILLED, read_environment

_GRADIENT = "gradient_norm/"
_MOST_ROWS, _MOST_FACTS = 200, 50


@dataclass(frozen=True)
class AccuracyRow:
    """An architecture and its accuracies, as a table shows them."""

    network: str
    seen: str
    cells: tuple[str, ...]
    n: str


@dataclass(frozen=True)
class RunView:
    """All that the template of a run takes."""

    title: str
    facts: dict[str, str]
    problem: str
    kinds: tuple[str, ...] = ()
    rows: tuple[AccuracyRow, ...] = ()
    protocol: str = ""
    accuracy: DotPlot | None = None
    gallery: Gallery | None = None
    training: tuple[LinePlot, ...] = ()
    over_steps: LinePlot | None = None
    steps_table: tuple[tuple[str, ...], ...] = ()
    networks: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def table_rows(self) -> list[tuple[str, ...]]:
        """The accuracies as lines of a table."""
        return [(row.network, row.seen, *row.cells, row.n) for row in self.rows]


def read_run(folder: Path) -> RunView:
    """Read a run folder, or the folder of a distilled set.

    Raises:
        HostError: a file in it is damaged.
    """
    has_images = any((folder / part / METADATA).is_file() for part in (".", DISTILLED))
    distilled = DistilledSet.load(folder) if has_images else None
    metadata = distilled.metadata if distilled else {}
    config = metadata.get("config") or (
        read_yaml(folder / CONFIG, ArtefactError) if (folder / CONFIG).is_file() else {}
    )
    metrics, evaluation = read_metrics(folder), final_evaluation(metadata)
    problem = "" if distilled else "The run has not ended: it has no images yet."
    if distilled and evaluation is None:
        problem = "The images were not evaluated."
    recorded = metadata.get("seen_networks")
    seen = {short(name, 60) for name in recorded} if isinstance(recorded, list) else set[str]()
    environment = read_environment(folder)
    versions = metadata.get("versions") or environment.get("versions")
    kinds = tuple(dict.fromkeys(row.images for row in evaluation.rows)) if evaluation else ()
    steps, networks = _accuracy_steps(metrics, seen)
    return RunView(
        title=_title(config),
        facts=_facts(config, metadata),
        problem=problem,
        kinds=tuple(short(kind, 60) for kind in kinds),
        rows=tuple(_rows(evaluation, kinds, seen)) if evaluation else (),
        protocol=_protocol(evaluation) if evaluation else "",
        accuracy=_accuracy_plot(evaluation, kinds, seen) if evaluation else None,
        gallery=gallery(distilled, folder, MOST_SHOWN) if distilled else None,
        training=tuple(training_plots(metrics)),
        over_steps=line_plot(
            "steps",
            "Accuracy",
            {f"{name} ({_seen(name, seen)})": p for name, p in metrics.accuracies.items()},
            "percent",
        ),
        steps_table=steps,
        networks=networks,
        settings=flat(config),
        environment=flat(
            {key: environment[key] for key in ("python", "system", "device", "threads") if key in environment}
        ),
        versions=flat(versions) if isinstance(versions, dict) else {},
        origin=origin(metadata),
    )


def final_evaluation(metadata: dict[str, Any]) -> Evaluation | None:
    """The evaluation of the final images; None where there is none, or where it is none of this library."""
    try:
        found = Evaluation.from_record(fact(metadata, "results", "final") or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if any(number(value) is None for row in found.rows for value in row.accuracies):
        return None
    return replace(found, rows=found.rows[:_MOST_ROWS])


def origin(metadata: dict[str, Any]) -> dict[str, str]:
    """Where data, prior and experts come from, with the licences that were recorded."""
    found = {"data": short(fact(metadata, "data", "source") or "unknown")}
    found["licence of the images"] = "a derivative of the data named above: its licence and its limits apply to them"
    for kind in ("generator", "objective"):
        part = metadata.get(kind)
        for name, value in islice(part.items(), _MOST_FACTS) if isinstance(part, dict) else ():
            if name not in ("name", "options"):
                found[f"{kind}: {short(name, 60).replace('_', ' ')}"] = short(value)
    if fact(metadata, "storage", "prior_bytes"):
        found.setdefault("generator: prior licence", "not stated")
    return found


def training_plots(metrics: Metrics) -> list[LinePlot]:
    """Loss, norms of gradients, and the objective's other numbers over steps."""
    gradients = metrics.starting(_GRADIENT)
    others = {name: points for name, points in metrics.numbers.items() if not name.startswith(_GRADIENT)}
    plots = [
        line_plot(f"train{place}", name.capitalize(), {name: points})
        for place, (name, points) in enumerate(others.items())
    ]
    plots.insert(1, line_plot("gradients", "Norms of gradients, by latent", gradients))
    return [plot for plot in plots if plot is not None]


def _title(config: Any) -> str:
    names = [fact(config, kind, "name") for kind in ("generator", "objective", "data")]
    generator, objective, data = (short(name or "unknown", 60) for name in names)
    return f"{generator} with {objective} on {data}"


def _facts(config: Any, metadata: dict[str, Any]) -> dict[str, str]:
    steps, done = fact(config, "steps"), metadata.get("steps")
    storage = {
        key: number(fact(metadata, "storage", key)) for key in ("numbers_per_class", "latent_bytes", "prior_bytes")
    }
    found = {
        "generator": fact(config, "generator", "name"),
        "objective": fact(config, "objective", "name"),
        "data": fact(metadata, "data", "source") or fact(config, "data", "name"),
        "images per class": fact(config, "images_per_class"),
        "seed": fact(config, "seed"),
        "steps": steps if done in (None, steps) else f"{done} of {steps}",
        "start": metadata.get("start"),
        "learned numbers per class": amount(storage["numbers_per_class"]),
        "size of the latents": amount(storage["latent_bytes"], "bytes"),
        "size of the prior": amount(storage["prior_bytes"], "bytes"),
    }
    return {name: short(value) for name, value in found.items() if value not in (None, "unknown")}


def _rows(evaluation: Evaluation, kinds: tuple[str, ...], seen: set[str]) -> list[AccuracyRow]:
    cells = {(row.network, row.images): percent(row) for row in evaluation.rows}
    return [
        AccuracyRow(
            short(name, 60),
            _seen(name, seen),
            tuple(cells.get((name, kind), "") for kind in kinds),
            ", ".join(str(n) for n in dict.fromkeys(row.n for row in evaluation.rows if row.network == name)),
        )
        for name in dict.fromkeys(row.network for row in evaluation.rows)
    ]


def percent(row: Row) -> str:
    """`68.5 ± 2.1`; one network has no deviation. Networks that diverged are counted."""
    failed = f" ({len(row.diverged)} diverged)" if row.diverged else ""
    return f"{row.mean:.1f}" + ("" if row.std is None else f" ± {row.std:.1f}") + failed


def _seen(network: str, seen: set[str]) -> str:
    return "seen" if network in seen else "unseen" if seen else "not known"


def _accuracy_plot(evaluation: Evaluation, kinds: tuple[str, ...], seen: set[str]) -> DotPlot | None:
    rows = []
    for network in dict.fromkeys(row.network for row in evaluation.rows):
        values = [
            Value(row.mean, row.mean - (row.std or 0), row.mean + (row.std or 0), kinds.index(row.images), percent(row))
            for row in evaluation.rows
            if row.network == network
        ]
        rows.append((f"{short(network, 60)} ({_seen(network, seen)})", values))
    names = [short(kind, 60) if kind != RANDOM_REAL else "random real images" for kind in kinds]
    what = "Test accuracy in percent, lines: mean ± standard deviation over networks"
    return dot_plot("accuracy", "Test accuracy, %", rows, names, what)


def _protocol(evaluation: Evaluation) -> str:
    protocol = evaluation.protocol
    return (
        f"Percent of {evaluation.test_images:,} test images, mean ± standard deviation (divisor n - 1) over n trained networks; "
        f"protocol {short(protocol.name, 60)}: {short(protocol.summary)}."
    )


def _accuracy_steps(metrics: Metrics, seen: set[str]) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """A row for each evaluated step: the step, and the accuracy of each architecture."""
    by_step: dict[float, dict[str, float]] = {}
    for name, points in metrics.accuracies.items():
        for step, value in points:
            by_step.setdefault(step, {})[name] = value
    rows = [
        (f"{step:g}", *(f"{values[name]:.1f}" if name in values else "" for name in metrics.accuracies))
        for step, values in sorted(by_step.items())
    ]
    # A hundred evaluations are enough to read; the last one is among them.
    return tuple(rows[-100:]), tuple(f"{name} ({_seen(name, seen)})" for name in metrics.accuracies)


def is_run(folder: Path) -> bool:
    """Whether `folder` looks like a run, or like a distilled set."""
    return any((folder / name).is_file() for name in (CONFIG, METADATA, f"{DISTILLED}/{METADATA}"))

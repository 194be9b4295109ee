"""What the report of a comparison shows: its table, plots, images side by side, and what became of each row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ld3m_plugin.artefact.distilled_set import METADATA
from ld3m_plugin.artefact.reading import read_metadata
from ld3m_plugin.comparison.cells import gather
from ld3m_plugin.comparison.exports import Table, shown
from ld3m_plugin.comparison.made_rows import read_made
from ld3m_plugin.comparison.manifest import MANIFEST, Manifest, ManifestRow, RowState
from ld3m_plugin.comparison.results import baseline, results
from ld3m_plugin.comparison.summary import summarise
from ld3m_plugin.errors import ArtefactError, one_line
from ld3m_plugin.report.accuracy_panels import accuracy_panels
from ld3m_plugin.report.difference_panels import difference_panels
from ld3m_plugin.report.embedded_images import Gallery, gallery
from ld3m_plugin.report.plain_text import amount, fact, flat, number, short
from ld3m_plugin.report.plots import DotPlot, LinePlot
from ld3m_plugin.report.run_view import origin
from ld3m_plugin.report.step_plots import by_configuration, configuration, step_plots
from ld3m_plugin.runs.folder import DISTILLED
from ld3m_plugin.storage import read_json

_MOST_ROWS, _MOST_PANELS, _MOST_COLUMNS, _MOST_IMAGES = 500, 24, 12, 240
#: Columns of the table that are left out where they say the same in every row. How much is stored stays in sight.
_SHARED = {"objective", "data", "start", "n"}
ROW_TITLES = (
    *("row", "state", "starts", "steps", "seconds", "seconds a step", "peak memory MiB", "numbers per class"),
    *("latents, bytes", "of them fixed", "prior, bytes"),
)


@dataclass(frozen=True)
class ReportedRow:
    """A row of the grid: its cells after the first, its folder as a link, its error, and the settings that rows differ in."""

    label: str
    link: str
    cells: tuple[str, ...]
    line: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Column:
    """The images of one configuration; `images` by class name."""

    title: str
    note: str
    gallery: Gallery

    @property
    def images(self) -> dict[str, Any]:
        """The shown images of each class."""
        return dict(self.gallery.classes)


@dataclass(frozen=True)
class SideBySide:
    """Images of several configurations on one data set; a line for each class."""

    data: str
    columns: tuple[Column, ...]
    all_columns: int

    @property
    def classes(self) -> list[str]:
        """The classes that any column shows, in label order."""
        return list(dict.fromkeys(name for column in self.columns for name, _ in column.gallery.classes))


@dataclass(frozen=True)
class ComparisonView:
    """All that the template of a comparison takes."""

    title: str
    facts: dict[str, str]
    table: Table | None
    shared: dict[str, str]
    interval_said: str
    differences: tuple[DotPlot, ...]
    all_differences: int
    panels: tuple[DotPlot, ...]
    all_panels: int
    images: tuple[SideBySide, ...]
    steps: tuple[LinePlot, ...]
    all_steps: int
    losses: tuple[LinePlot, ...]
    all_losses: int
    row_titles: tuple[str, ...]
    rows: tuple[ReportedRow, ...]
    all_rows: int
    common: dict[str, str]
    grid: dict[str, str]
    origin: dict[str, str]
    versions: dict[str, str]

    @property
    def failed(self) -> list[ReportedRow]:
        """Rows that could not be made."""
        return [row for row in self.rows if row.line]

    @property
    def failures(self) -> dict[str, list[ReportedRow]]:
        """The same by error."""
        found: dict[str, list[ReportedRow]] = {}
        for row in self.failed:
            found.setdefault(row.line, []).append(row)
        return found


def read_comparison(folder: Path, page_folder: Path) -> ComparisonView:
    """Read the folder of a comparison.

    Args:
        page_folder: where the page will lie; links to rows start there.

    Raises:
        HostError: a file of it is damaged.
    """
    manifest = Manifest.read(folder)
    for row in manifest.rows:
        if row.label in ("", ".", "..") or Path(row.label).name != row.label:
            raise ArtefactError(
                f"{folder / MANIFEST} is damaged: {one_line(repr(row.label), 80)} is no name of a folder"
            )
    progress = {row.id: str(state) for state, rows in manifest.by_progress().items() for row in rows}
    finished = [row for row in manifest.rows if progress[row.id] == "finished"]
    found = results(manifest, finished)
    summary = summarise(found, baseline(manifest, found)) if found else None
    panels = accuracy_panels(gather(found), summary) if summary else []
    table, shared = _narrow(shown(summary)) if summary else (None, {})
    facts = {row.id: _metadata(manifest, row) for row in finished}
    differences = difference_panels(summary) if summary else []
    seen = {row.id: result.seen for row, result in zip(finished, found, strict=True)}
    steps, losses = step_plots(manifest, seen)
    common, differing = _settings(manifest.rows)
    code = fact(read_json(folder / MANIFEST, ArtefactError), "code")
    return ComparisonView(
        title=_title(manifest),
        facts=_facts(manifest, progress, summary.baseline if summary else {}),
        table=table,
        shared=shared,
        interval_said=f"{100 * (1 - summary.level):g} %" if summary else "",
        differences=tuple(differences[:_MOST_PANELS]),
        all_differences=len(differences),
        panels=tuple(panels[:_MOST_PANELS]),
        all_panels=len(panels),
        images=tuple(_side_by_side(manifest, finished)),
        steps=tuple(steps[:_MOST_PANELS]),
        all_steps=len(steps),
        losses=tuple(losses[:_MOST_PANELS]),
        all_losses=len(losses),
        row_titles=ROW_TITLES,
        rows=tuple(
            _reported(manifest, row, progress[row.id], facts.get(row.id, {}), differing[row.id], page_folder)
            for row in manifest.rows[:_MOST_ROWS]
        ),
        all_rows=len(manifest.rows),
        common=common,
        grid=flat(manifest.grid),
        origin=_origins(list(facts.values())),
        versions=flat(code) if isinstance(code, dict) else {},
    )


def _narrow(table: Table) -> tuple[Table, dict[str, str]]:
    """Take out columns that say the same in every row, such as the data: what is compared moves into sight."""
    columns = {title: [row[place] for row in table.rows] for place, title in enumerate(table.titles)}
    shared = {title: cells[0] for title, cells in columns.items() if title in _SHARED and len(set(cells)) == 1}
    kept = [title for title in table.titles if title not in shared]
    rows = tuple(zip(*(columns[title] for title in kept), strict=True))
    return Table(tuple(kept), rows, table.note), {title: short(text) for title, text in shared.items()}


def _title(manifest: Manifest) -> str:
    runs = [row for row in manifest.rows if row.kind == "run"]
    names = [dict.fromkeys(getattr(row, kind) for row in runs) for kind in ("generator", "objective", "data")]
    generators, objectives, data = (short(", ".join(filter(None, listed)), 120) for listed in names)
    return f"Comparison: {generators} with {objectives} on {data}"


def _facts(manifest: Manifest, progress: dict[str, str], baseline: Any) -> dict[str, str]:
    states = list(progress.values())
    counts = [f"{states.count(name)} {name}" for name in ("finished", "running", "failed", "stopped", "left")]
    return {
        "rows": f"{len(states)}: " + ", ".join(count for count in counts if not count.startswith("0 ")),
        "images per class": short(
            ", ".join(str(n) for n in dict.fromkeys(row.images_per_class for row in manifest.rows))
        ),
        "seeds": short(", ".join(str(n) for n in dict.fromkeys(row.seed for row in manifest.rows))),
        "equal": short(manifest.grid.get("equal", "images")),
        "baseline": short(", ".join(str(value) for value in baseline.values()) or "none"),
    }


def _metadata(manifest: Manifest, row: ManifestRow) -> dict[str, Any]:
    path = manifest.run_folder(row) / DISTILLED / METADATA
    return read_metadata(path) if path.is_file() else {}


def _origins(metadata: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Facts of all rows; where rows differ, each value once."""
    found: dict[str, dict[str, None]] = {}
    for facts in metadata:
        for name, value in origin(facts).items() if facts else ():
            found.setdefault(name, {})[value] = None
    return {name: short("; ".join(values), 600) for name, values in found.items()}


def _reported(
    manifest: Manifest, row: ManifestRow, progress: str, metadata: dict[str, Any], settings: dict[str, str], page: Path
) -> ReportedRow:
    state: RowState = manifest.state(row)
    stored = [number(fact(metadata, "storage", f"{name}")) for name in _STORED]
    cells = (
        *(progress, str(state.starts), str(state.steps or ""), f"{state.seconds:.0f}" if state.steps else ""),
        f"{state.seconds / state.steps:.3f}" if state.steps else "",
        f"{state.peak_mib:,.0f}" if state.peak_mib else "",
        *("" if count is None else amount(count) for count in stored),
    )
    link = quote(Path(os.path.relpath(manifest.run_folder(row), page)).as_posix()) + "/"
    line = (state.line or "no error was recorded") if progress == "failed" else ""
    return ReportedRow(short(row.label), link, cells, line and short(line, 600), settings)


_STORED = ("numbers_per_class", "latent_bytes", "fixed_bytes", "prior_bytes")


def _settings(rows: Sequence[ManifestRow]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The settings that all rows share, and by identity of a row those in which rows differ."""
    every = {row.id: flat(row.settings) for row in rows}
    values: dict[str, set[str | None]] = {}
    for path in dict.fromkeys(path for settings in every.values() for path in settings):
        values[path] = {settings.get(path) for settings in every.values()}
    first = next(iter(every.values()), {})
    common = {path: value for path, value in first.items() if len(values[path]) == 1}
    return common, {
        row_id: {path: value for path, value in settings.items() if path not in common}
        for row_id, settings in every.items()
    }


def _side_by_side(manifest: Manifest, finished: Sequence[ManifestRow]) -> list[SideBySide]:
    """The images of the first seed of each configuration, one table for each data set."""
    of_data: dict[str, list[ManifestRow]] = {}
    for rows in by_configuration(finished):
        of_data.setdefault(rows[0].data, []).append(rows[0])
    columns = sum(len(rows[:_MOST_COLUMNS]) for rows in of_data.values())
    most, tables = max(10, _MOST_IMAGES // max(1, columns)), []
    for data, rows in list(of_data.items())[:_MOST_PANELS]:
        made = []
        for row in rows[:_MOST_COLUMNS]:
            distilled = read_made(manifest.run_folder(row)).distilled
            if distilled is not None:
                title = configuration(row)
                images = gallery(distilled, manifest.run_folder(row), most, title)
                note = f"{row.images_per_class} per class, seed {row.seed}"
                part = images.shown < images.total or images.scaled_from
                made.append(Column(title, f"{note}; {images.said}" if part else note, images))
        tables.append(SideBySide(short(data, 60), tuple(made), len(rows)))
    return tables

"""The manifest of a comparison: its rows, written before the first of them is made, and what became of each.

FOLDER/manifest.json  states/ID.json  rows/LABEL-ID/  logs/LABEL-ID.txt
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from ld3m_plugin.comparison.points import RowKind
from ld3m_plugin.comparison.row_identity import Row, code_version
from ld3m_plugin.errors import ArtefactError, MissingArtefactError, UsageError, one_line
from ld3m_plugin.storage import InUseError, locked, read_json, write_json

MANIFEST, STATES, ROWS, LOGS, LAUNCHER = "manifest.json", "states", "rows", "logs", "launcher"
FORMAT = 1
#: How far a row is; `running` is known by its lock, which no dead process keeps.
Progress = Literal["left", "running", "stopped", "failed", "finished"]


@dataclass(frozen=True)
class ManifestRow:
    """One row of a comparison, as the manifest has it.

    Attributes:
        kind: `run`, `start` (an initialiser's pictures), or `random real`.
        settings: completed configuration of the run; of the others, that of any run beside them but for their generator.
        asked: images per class that were asked for, on which terms rows are compared; with equal storage a row may have others.
    """

    id: str
    label: str
    kind: RowKind
    generator: str
    objective: str
    data: str
    images_per_class: int
    seed: int
    varied: dict[str, Any]
    start: str
    threads: int
    settings: dict[str, Any]
    asked: int | None = None

    @classmethod
    def of(cls, row: Row, threads: int) -> Self:
        """The entry of a planned row."""
        config, varied, generator = row.point.config, dict(row.point.varied), row.point.generator
        objective = config.objective.name if row.point.kind == "run" else ""
        values = [f"{path.split('.')[-1]}{value}" for path, value in varied.items()]
        base, colon, argument = config.data.name.partition(":")
        data = f"{base}{colon}{argument.rpartition('/')[2]}"  # of a path, its end says most
        name = [generator or "random-real", objective, data, f"ipc{config.images_per_class}"]
        label = "-".join(filter(None, [*name, f"seed{config.seed}", *values]))
        label = re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-.")[:100]
        return cls(
            row.id,
            f"{label}-{row.id[:8]}",
            row.point.kind,
            generator or "random real",
            objective,
            config.data.name,
            config.images_per_class,
            config.seed,
            varied,
            row.start,
            threads,
            config.model_dump(mode="json"),
            row.asked,
        )


def _is_named_well(row: ManifestRow) -> bool:
    """Whether identity and label name an entry of a folder: they name files, and must lead nowhere else."""
    names = (row.id, row.label)
    return all(name and name[0] != "." and not any(sign in name for sign in "/\\\0") for name in names)


@dataclass(frozen=True)
class RowState:
    """What became of a row; its own process writes it.

    Attributes:
        starts: how often a process began with it.
        line: the error of a failed row.
        code: `code_version` of the process that last worked on it.
        seconds: of all steps, without evaluations.
        peak_mib: the largest memory of its processes.
    """

    progress: Progress = "left"
    starts: int = 0
    line: str = ""
    exit_code: int = 0
    code: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0
    peak_mib: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """The rows of the comparison in `folder`."""

    folder: Path
    rows: tuple[ManifestRow, ...]
    grid: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `manifest.json`.

        Raises:
            ArtefactError: there is none, or it is damaged.
        """
        path = folder / MANIFEST
        advice = f"is {folder} the --out of a comparison?"
        if not path.exists():
            raise MissingArtefactError(f"{path} is missing: {advice}")
        content = read_json(path, lambda text: ArtefactError(f"{text}: {advice}"))
        try:
            if content["format"] != FORMAT:
                raise ArtefactError(
                    f"{path} has format {content['format']}, this version reads {FORMAT}: update ld3m-plugin"
                )
            rows = TypeAdapter(tuple[ManifestRow, ...]).validate_python(
                [{k: v for k, v in row.items() if k != "starts"} for row in content["rows"]]
            )
            if not all(map(_is_named_well, rows)) or len({row.id for row in rows}) < len(rows):
                raise ValueError("a row has no name that this program gives")
            return cls(folder, rows, dict(content["grid"]))
        except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
            raise ArtefactError(f"{path} is damaged ({one_line(str(error))}): give the command again") from error

    def write(self) -> None:
        """Write the manifest with how often each row was started."""
        rows = [{**asdict(row), "starts": self.state(row).starts} for row in self.rows]
        content = {"format": FORMAT, "code": code_version(), "grid": self.grid, "rows": rows}
        write_json(self.folder / MANIFEST, content)

    def row(self, row_id: str) -> ManifestRow:
        """The row of that identity.

        Raises:
            UsageError: there is none.
        """
        found = next((row for row in self.rows if row.id == row_id), None)
        if found is None:
            raise UsageError(f"{self.folder} has no row {row_id!r}: see `ld3m compare status {self.folder}`")
        return found

    def run_folder(self, row: ManifestRow) -> Path:
        """Where the run, or the record, of a row lies."""
        return self.folder / ROWS / row.label

    def log(self, row: ManifestRow) -> Path:
        """Where the output of a row's processes goes."""
        return self.folder / LOGS / f"{row.label}.txt"

    def lock(self, row: ManifestRow) -> Path:
        """The file that the process of a row keeps locked."""
        return self.folder / STATES / f"{row.id}.lock"

    def state(self, row: ManifestRow) -> RowState:
        """What became of a row; one without a record, or with a damaged one, is left to be made."""
        path = self.folder / STATES / f"{row.id}.json"
        if not path.is_file():
            return RowState()
        try:
            return TypeAdapter(RowState).validate_python(read_json(path, ArtefactError))
        except (ArtefactError, ValidationError):
            return RowState()

    def progress(self, row: ManifestRow) -> Progress:
        """How far a row is; also whether a process is at work on it now."""
        if self.lock(row).exists():
            try:
                with locked(self.lock(row), self.folder, "wait"):
                    pass
            except InUseError:
                return "running"
        progress = self.state(row).progress
        return "stopped" if progress == "running" else progress  # its process was killed

    def update(self, row: ManifestRow, **changes: Any) -> RowState:
        """Write a row's state with some fields changed; only the process that holds its lock may call it."""
        state = replace(self.state(row), **changes)
        path = self.folder / STATES / f"{row.id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(state))
        return state

    def by_progress(self, rows: Iterable[ManifestRow] | None = None) -> Mapping[Progress, list[ManifestRow]]:
        """The rows by how far they are."""
        found: dict[Progress, list[ManifestRow]] = {}
        for row in self.rows if rows is None else rows:
            found.setdefault(self.progress(row), []).append(row)
        return found

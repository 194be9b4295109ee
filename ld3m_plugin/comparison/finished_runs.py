"""What a comparison is: finished runs side by side, their table, their pictures, and how they are read and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import METADATA, DistilledSet
from ld3m_plugin.artefact.pictures import save_grid
from ld3m_plugin.config import RunConfig
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.evaluation import RANDOM_REAL, Evaluation, Row
from ld3m_plugin.storage import write_json
from ld3m_plugin.trackers.jsonl import FILE_NAME as METRICS

NUMBERS, PICTURES = "comparison.json", "comparison.png"

#: What `write_comparison` leaves, also where it was killed.
_FILES = (NUMBERS, PICTURES, f".{NUMBERS}.partial", f".partial.{PICTURES}")

_MOST_PICTURES = 10  # in a row


@dataclass(frozen=True)
class ComparedRun:
    """One finished run of a comparison.

    Attributes:
        name: its column in the table.
        seconds: time of all its steps, without evaluations.
    """

    name: str
    folder: Path
    config: RunConfig
    distilled: DistilledSet
    evaluation: Evaluation
    seconds: float

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        seconds = {"distillation": round(self.seconds, 1), "evaluation": round(self.evaluation.seconds, 1)}
        generator = self.config.generator.model_dump(mode="json")
        rates = dict(self.config.optimizer.learning_rates)
        return {
            "folder": self.folder.name,
            "generator": generator,
            "learning_rates": rates,
            "seconds": seconds,
            "evaluated_random_real": _has_random_real(self.evaluation),
        }


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives back.

    Attributes:
        table: a row for each network and each name, and for each network and random real images where they were wanted;
            `images` of a row is the name. Its seconds are those of all evaluations.
    """

    folder: Path
    runs: tuple[ComparedRun, ...]
    table: Evaluation

    def record(self) -> dict[str, Any]:
        """As plain data, for JSON: the table, and of each run its folder (beside the file), generator and seconds."""
        return {**self.table.record(), "runs": {run.name: run.record() for run in self.runs}}


def check_folder(folder: Path) -> None:
    """Check that nothing but a comparison, or the beginning of one, is in `folder`; it need not exist.

    Raises:
        UsageError: something else is there, or a table without the runs it is of: it would be overwritten.
    """
    entries = sorted(folder.iterdir()) if folder.exists() else []
    for entry in entries:
        if not (_is_run(entry) or (entry.is_file() and entry.name in _FILES)):
            raise UsageError(f"{entry} is not of a comparison: choose another --out, or move it away")
    written = [entry for entry in entries if entry.name in (NUMBERS, PICTURES)]
    if written and not any((entry / "config.yaml").is_file() for entry in entries):
        raise UsageError(
            f"{written[0]} would be overwritten, and no run folder is beside it: choose another --out, or move it away"
        )


def _is_run(path: Path) -> bool:
    """Whether a run is in the folder `path`, or was stopped before it wrote its configuration."""
    return path.is_dir() and ((path / "config.yaml").is_file() or not any(path.iterdir()))


def read_run(name: str, folder: Path, config: RunConfig) -> ComparedRun | None:
    """The run in `folder`, or None where it is not finished.

    Raises:
        ArtefactError: it is damaged.
    """
    path = folder / "distilled" / METADATA
    if not path.is_file():
        return None
    distilled = DistilledSet.load(folder / "distilled")
    results = distilled.metadata.get("results")
    if results is None:  # stopped in its evaluation
        return None
    try:
        step, evaluation = int(results["final"]["step"]), Evaluation.from_record(results["final"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"the results in {path} are damaged: delete {folder} to make the run again") from error
    if step != config.steps or (config.evaluation.random_real and not _has_random_real(evaluation)):
        return None
    return ComparedRun(name, folder, config, distilled, evaluation, _step_seconds(folder / METRICS))


def _has_random_real(evaluation: Evaluation) -> bool:
    return any(row.images == RANDOM_REAL for row in evaluation.rows)


def _step_seconds(path: Path) -> float:
    total = 0.0
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):  # an evaluation, or a line that is not ours
            record = json.loads(line)
            total += float(record["seconds"]) if "loss" in record else 0.0
    return total


def write_comparison(folder: Path, runs: list[ComparedRun]) -> Comparison:
    """Write the table and the pictures of finished runs, in their order, into `folder`."""
    comparison = Comparison(folder, tuple(runs), _table(runs))
    write_json(folder / NUMBERS, comparison.record())
    rows = [_pictures(run.distilled) for run in runs]
    partial = folder / f".partial.{PICTURES}"
    save_grid(torch.cat(rows), partial, columns=len(rows[0]))
    partial.replace(folder / PICTURES)
    return comparison


def _table(runs: Sequence[ComparedRun]) -> Evaluation:
    found: list[Row] = []
    for network in dict.fromkeys(row.network for row in runs[0].evaluation.rows):
        rows = [(run, row) for run in runs for row in run.evaluation.rows if row.network == network]
        found += [replace(row, images=run.name) for run, row in rows if row.images == "distilled"]
        # The configuration, not the rows: a run that was made on its own has rows of its own.
        found += [row for run, row in rows if row.images == RANDOM_REAL and run.config.evaluation.random_real]
    seconds = sum(run.evaluation.seconds for run in runs)
    return replace(runs[0].evaluation, rows=tuple(found), seconds=seconds)


def _pictures(distilled: DistilledSet) -> Tensor:
    """Up to ten images (n, C, H, W) in [0, 1], in the order of classes: of each as many as fit, of the first ten classes one."""
    labels = distilled.labels if distilled.labels.ndim == 1 else distilled.labels.argmax(1)
    classes = range(min(len(distilled.class_names), _MOST_PICTURES))
    each = _MOST_PICTURES // len(classes)
    return torch.cat([distilled.denormalised()[labels == index][:each] for index in classes])

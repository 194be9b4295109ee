"""The result of a comparison: one table of finished runs, and their pictures in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.pictures import save_grid
from ld3m_plugin.comparison.rows import ComparedRun
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.storage import write_json

NUMBERS, PICTURES = "comparison.json", "comparison.png"
_MOST_PICTURES = 10  # in a row


@dataclass(frozen=True)
class Comparison:
    """Finished runs and their table.

    Attributes:
        table: a row for each network and run, its `images` the run's name, and for each network and random real images where
            they were evaluated. Its seconds are those of all evaluations.
    """

    folder: Path
    runs: tuple[ComparedRun, ...]
    table: Evaluation

    def record(self) -> dict[str, Any]:
        """The comparison as plain data, for JSON: the table, and each run's folder (beside the file), generator and seconds."""
        return {**self.table.record(), "runs": {run.name: run.record() for run in self.runs}}


def write_comparison(folder: Path, runs: Sequence[ComparedRun], random_real: Sequence[Evaluation]) -> Comparison:
    """Write the table and the pictures of finished runs, in their order, into `folder`.

    Args:
        random_real: the evaluation of random real images, or none.
    """
    evaluations = [run.evaluation for run in runs] + list(random_real)
    rows = [replace(row, images=run.name) for run in runs for row in run.evaluation.rows if row.images == "distilled"]
    rows += [row for evaluation in random_real for row in evaluation.rows]
    networks = list(dict.fromkeys(row.network for row in rows))
    rows.sort(key=lambda row: networks.index(row.network))
    seconds = sum(evaluation.seconds for evaluation in evaluations)
    comparison = Comparison(folder, tuple(runs), replace(evaluations[0], rows=tuple(rows), seconds=seconds))
    write_json(folder / NUMBERS, comparison.record())
    shown = [pictures(run.distilled) for run in runs]
    partial = folder / f".partial.{PICTURES}"
    save_grid(torch.cat(shown), partial, columns=len(shown[0]))
    partial.replace(folder / PICTURES)
    return comparison


def pictures(distilled: DistilledSet) -> Tensor:
    """Choose up to ten images (n, C, H, W) in [0, 1], ordered by class: as many of each as fit, or one of the first ten."""
    labels = distilled.labels if distilled.labels.ndim == 1 else distilled.labels.argmax(1)
    classes = range(min(len(distilled.class_names), _MOST_PICTURES))
    each = _MOST_PICTURES // len(classes)
    return torch.cat([distilled.denormalised()[labels == index][:each] for index in classes])

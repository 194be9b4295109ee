"""Rows of a comparison: each has a record of its own, says whether it is finished, and makes itself from its settings alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.comparison.finished_runs import ComparedRun, read_run
from ld3m_plugin.config import RunConfig, dump
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation, choose_device
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation import RANDOM_REAL, Evaluation, check_evaluation, evaluate_random_real
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.runs.provenance import check_same_data, check_same_provenance, data_facts, provenance
from ld3m_plugin.runs.run import Reporter, resume, start
from ld3m_plugin.storage import write_json, write_text

#: Settings of the evaluation that decide the accuracies of random real images.
_DECIDING = {"protocol", "networks", "repeats", "test_per_class"}


@dataclass(frozen=True)
class RunRow:
    """A run; its record is the run folder. `config` is completed."""

    name: str
    folder: Path
    config: RunConfig

    @cached_property
    def finished(self) -> ComparedRun | None:
        """The run as it was read, None where it is still to be made."""
        return read_run(self.name, self.folder, self.config)

    def check(self, task: Task) -> None:
        """Check that the run can be made with `task`, or that its data, prior and experts are still those it was made with.

        Raises:
            HostError: it cannot, or they are not.
        """
        state = Distillation(self.config, task=task)
        if self.finished is not None:
            check_same_data(self.folder, task)
            check_same_provenance(self.folder, self.finished.distilled.metadata, provenance(state))

    def make(self, task: Task | None, reporter: Reporter) -> ComparedRun:
        """Start the run, or resume it where it was stopped."""
        if (self.folder / "config.yaml").is_file():
            # Settings that decide no result, such as the device or trackers, may have changed.
            write_text(self.folder / "config.yaml", dump(self.config))
            resume(self.folder, task=task, reporter=reporter)
        else:
            start(self.config, self.folder, task=task, reporter=reporter)
        # Read from the disk, so that the numbers are the same as when it is read another time.
        run = read_run(self.name, self.folder, self.config)
        if run is None:
            raise ArtefactError(
                f"the results of the run in {self.folder} are missing: is another program writing there?"
            )
        return run


@dataclass(frozen=True)
class RandomRealRow:
    """Random real images; the record is the file `path`.

    Attributes:
        config: of any run of the comparison, completed.
        runs: one that was evaluated with random real images serves as the record where there is none.
    """

    path: Path
    config: RunConfig
    runs: Sequence[RunRow] = ()

    @cached_property
    def finished(self) -> Evaluation | None:
        """The row as it was read, None where it is still to be evaluated with these settings."""
        record = self._record()
        if record is not None:
            return Evaluation.from_record(record["evaluation"])
        for run in (row.finished for row in self.runs if row.finished is not None):
            rows = tuple(row for row in run.evaluation.rows if row.images == RANDOM_REAL)
            if rows:
                return replace(run.evaluation, rows=rows, seconds=0.0)  # the run counts the time
        return None

    def check(self, task: Task) -> None:
        """Check that the row can be evaluated with `task`, or that its record was made with the same data.

        Raises:
            HostError: it cannot, or it was not.
        """
        record = self._record()
        if record is not None and record["data"] != _facts(task):
            raise ArtefactError(f"{self.path} was made with other classes or images than {task.source!r}: delete it")
        if self.finished is None:
            evaluation = self.config.evaluation
            protocol = get_protocol(evaluation.protocol)
            check_evaluation(task, protocol, evaluation.networks, self.config.images_per_class)

    def make(self, task: Task | None, reporter: Reporter) -> Evaluation:
        """Evaluate random real images and write the record."""
        task = task or load_task(self.config.data.name, **self.config.data.options)
        evaluation = evaluate_random_real(
            torch.arange(task.num_classes).repeat_interleave(self.config.images_per_class),
            task.to(choose_device(self.config.device)),
            seed=self.config.seed,
            on_progress=reporter.evaluating,
            **self.config.evaluation.model_dump(include=_DECIDING),
        ).record()
        write_json(self.path, {"settings": self._settings(), "data": _facts(task), "evaluation": evaluation})
        return Evaluation.from_record(evaluation)  # as it is read another time

    def _record(self) -> dict[str, Any] | None:
        with suppress(OSError, KeyError, TypeError, ValueError):  # a damaged record is made again
            record = json.loads(self.path.read_text(encoding="utf-8"))
            Evaluation.from_record(record["evaluation"])
            return record if record["settings"] == self._settings() and record["data"] else None
        return None

    def _settings(self) -> dict[str, Any]:
        return self.config.model_dump(
            mode="json",
            include={"data": True, "images_per_class": True, "seed": True, "evaluation": _DECIDING},
            exclude={"data": {"options": {"root"}}},  # the same data may have moved
        )


def _facts(task: Task) -> dict[str, Any]:
    return {name: fact for name, fact in data_facts(task).items() if name != "source"}

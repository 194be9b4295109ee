"""Rows of a comparison: each has a record of its own, says whether it is finished, and makes itself from its settings alone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.artefact.distilled_set import METADATA, DistilledSet
from ld3m_plugin.comparison.settings import difference, run_settings
from ld3m_plugin.config import RunConfig, dump
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import data_difference, data_facts
from ld3m_plugin.data.load import load_task, recorded_options, without_places
from ld3m_plugin.distillation.loop import Distillation, choose_device
from ld3m_plugin.errors import ArtefactError, HostError, UsageError
from ld3m_plugin.evaluation import Evaluation, check_evaluation, evaluate_random_real
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.runs.folder import CONFIG, DISTILLED, read_config
from ld3m_plugin.runs.places import same_places
from ld3m_plugin.runs.provenance import check_same_origin
from ld3m_plugin.runs.run import Reporter, resume, start
from ld3m_plugin.storage import read_json, read_json_lines, write_json, write_text
from ld3m_plugin.trackers.jsonl import METRICS

#: Settings of the evaluation that decide the accuracies of random real images.
_DECIDING = {"protocol", "networks", "repeats", "test_per_class"}


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
        """The run as plain data, for JSON."""
        return {
            "folder": self.folder.name,
            "generator": self.config.generator.model_dump(mode="json"),
            "learning_rates": dict(self.config.optimizer.learning_rates),
            "seconds": {"distillation": round(self.seconds, 1), "evaluation": round(self.evaluation.seconds, 1)},
        }


@dataclass(frozen=True)
class RunRow:
    """A run; its record is the run folder. `config` is completed."""

    name: str
    folder: Path
    config: RunConfig

    @property
    def is_started(self) -> bool:
        """Whether the run folder has settings."""
        return (self.folder / CONFIG).is_file()

    @cached_property
    def finished(self) -> ComparedRun | None:
        """The run as it was read, None where it is still to be made.

        Raises:
            ArtefactError: it is damaged.
        """
        return self._read()

    @property
    def has_moved(self) -> bool:
        """Whether the run was made with data, a prior or experts at other places than those of `config`."""
        return self.is_started and not same_places(_as_now(read_config(self.folder)), self.config)

    def check_settings(self) -> None:
        """Raise `UsageError` if the folder has a run with settings that give other images or accuracies."""
        found = (
            difference(run_settings(_as_now(read_config(self.folder))), run_settings(self.config))
            if self.is_started
            else None
        )
        if found is not None:
            setting, old, new = found
            raise UsageError(
                f"the run in {self.folder} was made with {setting} = {old!r}, and now it is {new!r}: choose another --out, "
                "restore the setting, or delete that folder to make the run again"
            )

    def check(self, task: Task) -> None:
        """Check that the run can be made with `task`, or that its data, prior and experts are still those it was made with.

        Raises:
            HostError: it cannot, or they are not.
        """
        state = Distillation(self.config, task=task)
        if self.finished is not None:
            check_same_origin(self.folder, state, self.finished.distilled.metadata)
            write_text(self.folder / CONFIG, dump(self.config))  # with the places that were checked

    def make(self, task: Task | None, reporter: Reporter) -> ComparedRun:
        """Start the run, or resume it where it was stopped."""
        if self.is_started:
            # Settings that decide no result, such as the device or trackers, may have changed.
            resume(self.folder, config=self.config, task=task, reporter=reporter)
        else:
            start(self.config, self.folder, task=task, reporter=reporter)
        # Read from the disk, so that the numbers are the same as when it is read another time.
        run = self._read()
        if run is None:
            raise ArtefactError(
                f"the results of the run in {self.folder} are missing: is another program writing there?"
            )
        return run

    def _read(self) -> ComparedRun | None:
        path = self.folder / DISTILLED / METADATA
        if not path.is_file():
            return None
        distilled = DistilledSet.load(path.parent)
        results = distilled.metadata.get("results")
        if results is None:  # stopped in its evaluation
            return None
        try:
            step, evaluation = int(results["final"]["step"]), Evaluation.from_record(results["final"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(
                f"the results in {path} are damaged: delete {self.folder} to make the run again"
            ) from error
        if step != self.config.steps:
            return None
        return ComparedRun(self.name, self.folder, self.config, distilled, evaluation, self._step_seconds())

    def _step_seconds(self) -> float:
        total = 0.0
        for _, record in read_json_lines(self.folder / METRICS):
            with suppress(ValueError, KeyError, TypeError, OverflowError):  # an evaluation, or a line that is not ours
                total += float(record["seconds"]) if "loss" in record else 0.0
        return total


@dataclass(frozen=True)
class RandomRealRow:
    """Random real images; the record is the file `path`. `config` is that of any run of the comparison, completed."""

    path: Path
    config: RunConfig

    @cached_property
    def finished(self) -> Evaluation | None:
        """The row as it was read, None where it is still to be evaluated with these settings."""
        with suppress(HostError, KeyError, TypeError, ValueError, OverflowError):  # a damaged record is made again
            record = read_json(self.path, HostError)
            settings = record["settings"]
            settings["data"] = without_places(**settings["data"])  # version 0.1 recorded where the data lies
            if settings == self._settings() and record["data"]:
                return Evaluation.from_record(record["evaluation"])
        return None

    def check(self, task: Task) -> None:
        """Check that the row can be evaluated with `task`, or that its record was made with the same data.

        Raises:
            HostError: it cannot, or it was not.
        """
        if self.finished is None:
            settings = self.config.evaluation
            check_evaluation(task, get_protocol(settings.protocol), settings.networks, self.config.images_per_class)
        elif found := data_difference(read_json(self.path, ArtefactError)["data"], task):
            raise ArtefactError(
                f"{self.path} was made with other data, and now it is {task.source!r}, {found}: delete it"
            )

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

    def _settings(self) -> dict[str, Any]:
        settings = self.config.model_dump(
            mode="json", include={"data": True, "images_per_class": True, "seed": True, "evaluation": _DECIDING}
        )
        return {**settings, "data": without_places(**settings["data"])}


def _as_now(config: RunConfig) -> RunConfig:
    """The settings of a run without options of its data that version 0.1 recorded and never used."""
    options = recorded_options(config.data.name, config.data.options)
    return config.model_copy(update={"data": config.data.model_copy(update={"options": options})})


def _facts(task: Task) -> dict[str, Any]:
    return {name: fact for name, fact in data_facts(task).items() if name != "source"}

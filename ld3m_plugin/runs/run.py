"""A whole run: the loop, what it writes, and its evaluation.

    runs/NAME/config.yaml  metrics.jsonl  environment.json  checkpoints/step-000200/  distilled/

Whatever ends a run — an error, a value that is not finite, Ctrl-C — the last good state is written as a checkpoint, and
`resume` goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import get_tracker
from ld3m_plugin.config import RunConfig, TrackerConfig, completed, digest, dump, read_yaml
from ld3m_plugin.contracts import Task, Tracker
from ld3m_plugin.distillation.loop import Distillation, Step
from ld3m_plugin.errors import ArtefactError, NonFiniteError, UsageError
from ld3m_plugin.evaluation import Evaluation, check_evaluation, evaluate, get_protocol
from ld3m_plugin.evaluation.protocols import check_learned
from ld3m_plugin.options import build
from ld3m_plugin.registry import Registry, current_registry, use_registry
from ld3m_plugin.runs.checkpoints import latest_checkpoint, save_checkpoint
from ld3m_plugin.runs.provenance import (
    ENVIRONMENT,
    check_recorded_provenance,
    check_same_data,
    data_facts,
    environment,
    provenance,
)
from ld3m_plugin.storage import complete_folder, versions, write_json, write_text
from ld3m_plugin.trackers.jsonl import FILE_NAME as METRICS

BEST = "best_over_test_set_evaluations.json"


class Reporter:
    """What a run tells while it goes on; the base class keeps silent."""

    def started(self, state: Distillation, folder: Path) -> None:
        """Before the first step."""

    def step(self, step: Step) -> None:
        """After each update."""

    def evaluating(self, what: str) -> None:
        """A network is being trained."""

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        """A table of accuracies is there."""

    def say(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something is wrong that does not stop the run."""


@dataclass(frozen=True)
class RunResult:
    """What a run gives back; `evaluation` is of the final images."""

    folder: Path
    distilled: DistilledSet
    evaluation: Evaluation | None


def start(
    config: RunConfig,
    folder: Path,
    *,
    task: Task | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Run a configuration into a new folder.

    Raises:
        UsageError: the folder has something in it, or the configuration is not valid.
        HostError: the run failed; what was finished is in the folder.
    """
    with use_registry(registry):
        return _start(config, folder, task, reporter)


def _start(config: RunConfig, folder: Path, task: Task | None, reporter: Reporter | None) -> RunResult:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: choose another --out, or go on with --resume {folder}")
    state = Distillation(completed(config), task=task)
    _check_evaluation(state)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", dump(state.config))
    facts = environment(state.task.device, current_registry())
    write_json(folder / ENVIRONMENT, {"data": data_facts(state.task), "provenance": provenance(state), **facts})
    try:
        return _Run(state, folder, reporter or Reporter()).run()
    except NonFiniteError:
        raise  # it has promised that the state is kept
    except Exception:
        if state.iteration == 0 < state.config.steps:
            _undo_start(folder, is_new)
        raise


def resume(
    folder: Path,
    *,
    device: str | None = None,
    task: Task | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Go on with the run in `folder` from its newest checkpoint, bit for bit as if it had not stopped.

    Args:
        device: another device than the run's; bits then differ.

    Raises:
        ArtefactError: there is no run there, its checkpoint does not fit its settings, or its data has changed.
    """
    with use_registry(registry):
        return _resume(folder, device, task, reporter)


def _resume(folder: Path, device: str | None, task: Task | None, reporter: Reporter | None) -> RunResult:
    if not (folder / "config.yaml").is_file():
        raise ArtefactError(f"there is no run in {folder}: config.yaml is missing")
    config = build(RunConfig, read_yaml(folder / "config.yaml"), str(folder / "config.yaml"))
    checkpoint = latest_checkpoint(folder, digest(config))
    state = Distillation(config if device is None else config.model_copy(update={"device": device}), task=task)
    check_same_data(folder, state.task)
    check_recorded_provenance(folder, state)
    _check_evaluation(state)
    if checkpoint is not None:
        try:
            state.load_state_dict(checkpoint)
        except (KeyError, ValueError) as error:
            raise ArtefactError(f"the newest checkpoint in {folder} is not complete ({error}): delete it") from error
    _forget_after(folder / METRICS, state.iteration, config.steps)
    return _Run(state, folder, reporter or Reporter()).run()


def free_folder(root: Path, config: RunConfig, generator: str | None = None) -> Path:
    """A folder below `root` named after the run that does not exist yet.

    Args:
        generator: what the name says instead of the generator's.
    """
    data = config.data.name.replace(":", "-").replace("/", "-").strip("-")
    generator = generator or config.generator.name
    name = f"{data}-{generator}-{config.objective.name}-ipc{config.images_per_class}-seed{config.seed}"
    folder, number = root / name, 2
    while folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        folder, number = root / f"{name}-{number}", number + 1
    return folder


@dataclass
class _Run:
    state: Distillation
    folder: Path
    reporter: Reporter

    def run(self) -> RunResult:
        self.best = _read_best(self.folder, self.state.iteration)
        self.reporter.started(self.state, self.folder)
        with self._trackers() as trackers:
            self._loop(trackers)
            distilled = self._save()
            evaluation = self._final_evaluation(distilled, trackers)
        return RunResult(self.folder, distilled, evaluation)

    def _loop(self, trackers: dict[str, Tracker]) -> None:
        config, state = self.config, self.state
        # Not the state in memory at the time: a step that was cut short has drawn random numbers, may have trained the
        # objective's networks, and may have moved some latents. The copy costs far less than the step it protects.
        good, saved = state.state_dict(), -1
        try:
            while state.iteration < config.steps:
                step = state.step()
                record = {"step": step.iteration, "loss": step.loss, **step.metrics, "seconds": round(step.seconds, 4)}
                self._log(trackers, record)
                self.reporter.step(step)
                every = config.evaluation.every
                if every and step.iteration % every == 0 and step.iteration < config.steps:
                    self._evaluate(self._distilled(), trackers, random_real=False)
                good = state.state_dict()
                if config.checkpoint_every and step.iteration % config.checkpoint_every == 0:
                    saved = self._save_checkpoint(good)
        finally:
            if saved != int(good["host/iteration"]):
                self._save_checkpoint(good)

    def _save_checkpoint(self, state: dict[str, Tensor]) -> int:
        iteration = int(state["host/iteration"])
        save_checkpoint(self.folder, iteration, state, digest(self.config))
        return iteration

    def _final_evaluation(self, distilled: DistilledSet, trackers: dict[str, Tracker]) -> Evaluation | None:
        if not self.config.evaluation.final:
            return None
        final = self._evaluate(distilled, trackers, random_real=self.config.evaluation.random_real)
        distilled.metadata["results"] = {"final": {"step": self.state.iteration, **final.record()}}
        distilled.metadata["results"]["best_over_test_set_evaluations"] = self.best
        distilled.save_metadata(self.folder / "distilled")
        return final

    def _evaluate(self, distilled: DistilledSet, trackers: dict[str, Tracker], *, random_real: bool) -> Evaluation:
        settings = self.config.evaluation
        iteration = self.state.iteration
        evaluation = evaluate(
            distilled,
            self.state.task,
            networks=settings.networks,
            protocol=settings.protocol,
            repeats=settings.repeats,
            random_real=random_real,
            test_per_class=settings.test_per_class,
            seed=self.config.seed,
            on_progress=self.reporter.evaluating,
        )
        for row in evaluation.rows:
            record = {"images": row.images, "network": row.network, "accuracies": row.accuracies}
            self._log(trackers, {"step": iteration, **record, "protocol": evaluation.protocol.name})
        self._note_best(iteration, evaluation)
        self.reporter.evaluated(iteration, evaluation)
        return evaluation

    def _note_best(self, iteration: int, evaluation: Evaluation) -> None:
        """Keep the best mean over architectures; chosen on the test set, so it is never what a run reports."""
        mean = evaluation.mean("distilled")
        if self.best is None or mean > self.best["mean"]:
            record = replace(evaluation, rows=tuple(r for r in evaluation.rows if r.images == "distilled")).record()
            self.best = {"step": iteration, "mean": mean, **record}
            write_json(self.folder / BEST, self.best)

    def _save(self) -> DistilledSet:
        distilled = self._distilled()
        with complete_folder(self.folder / "distilled") as folder:
            distilled.save(folder)
        # Exactly what is on disk is what gets evaluated.
        return DistilledSet.load(self.folder / "distilled")

    def _distilled(self) -> DistilledSet:
        state = self.state
        return DistilledSet(state.images().cpu(), state.labels, self._metadata(), state.latents.clone().to("cpu"))

    def _metadata(self) -> dict[str, Any]:
        config, task = self.config, self.state.task
        registry = current_registry()
        parts = {}
        for kind, part in (("generator", config.generator), ("objective", config.objective)):
            owner = registry.find(kind, part.name).owner
            backend = getattr(self.state, kind)
            options = backend.options.model_dump(mode="json")
            facts = backend.provenance()
            parts[kind] = {"name": part.name, "options": options, "distribution": str(owner), **facts}
        return {
            "data": {"name": task.name, "source": task.source},
            "class_names": list(task.class_names),
            "wordnet_ids": list(task.wordnet_ids),
            "image_size": task.image_size,
            "channels": task.channels,
            "mean": list(task.mean),
            "std": list(task.std),
            "value_range": "images are (pixels in [0, 1] - mean) / std, not clipped",
            "images_per_class": config.images_per_class,
            **parts,
            "learned": self.state.objective.learned(),
            "steps": self.state.iteration,
            "seed": config.seed,
            "config": config.model_dump(mode="json"),
            "versions": versions(),
        }

    @property
    def config(self) -> RunConfig:
        return self.state.config

    @contextlib.contextmanager
    def _trackers(self) -> Iterator[dict[str, Tracker]]:
        chosen = {"jsonl": TrackerConfig(name="jsonl"), **{part.name: part for part in self.config.trackers}}
        plain = self.config.model_dump(mode="json")
        trackers: dict[str, Tracker] = {}

        def start(name: str) -> None:
            tracker = get_tracker(name, **chosen[name].options)
            tracker.start(self.folder, plain)
            trackers[name] = tracker

        for name in chosen:
            self._safely(name, partial(start, name))
        try:
            yield trackers
        finally:
            for name, tracker in trackers.items():
                self._safely(name, tracker.finish)

    def _log(self, trackers: dict[str, Tracker], record: dict[str, Any]) -> None:
        for name, tracker in list(trackers.items()):
            if not self._safely(name, partial(tracker.log, record)):
                del trackers[name]

    def _safely(self, name: str, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:  # a tracker is a stranger's code; losing it must not lose the run
            self.reporter.warn(f"tracker {name!r} failed and is turned off: {error}")
            return False
        return True


def _check_evaluation(state: Distillation) -> None:
    """What would stop an evaluation should stop a run before its first step, not after its last."""
    settings = state.config.evaluation
    if settings.final or settings.every:
        needed = state.config.images_per_class if settings.final and settings.random_real else 0
        protocol = get_protocol(settings.protocol)
        check_learned(protocol, state.objective.learned())
        check_evaluation(state.task, protocol, settings.networks, needed)


def _undo_start(folder: Path, is_new: bool) -> None:
    """Take back what `start` wrote, and nothing else: the same command should work once the mistake is mended."""
    for name in ("config.yaml", ENVIRONMENT, METRICS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if is_new and not any(folder.iterdir()):
        folder.rmdir()


def _read_best(folder: Path, iteration: int) -> dict[str, Any] | None:
    """The best evaluation before a run was stopped, unless it is of a step that will be made, and evaluated, again."""
    try:
        best = json.loads((folder / BEST).read_text(encoding="utf-8"))
        return dict(best) if best["step"] <= iteration and best["mean"] >= 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget_after(path: Path, iteration: int, steps: int) -> None:
    """Drop records of steps, and of the evaluation at the end, that will be made again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # a line cut off by a kill, or not ours
            record = json.loads(line)
            step = record.get("step", 0)
            if step <= iteration and not ("protocol" in record and step >= steps):
                kept.append(line)
    write_text(path, "".join(kept))

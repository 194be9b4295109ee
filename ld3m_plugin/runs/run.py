"""A whole run: the loop, its records in a run folder (`runs/folder.py`), and the evaluation of its images.

Whatever ends a run — an error, a value that is not finite, Ctrl-C — the last good state is written as a checkpoint, and
`resume` goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import OutOfMemoryError, Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.shown_images import MOST_SHOWN, shown_indices
from ld3m_plugin.config import RunConfig, completed, digest, dump, former_digest
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.data_settings import recorded_options
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError, HostError, NonFiniteError, UsageError, one_line
from ld3m_plugin.evaluation import Evaluation, check_evaluation, evaluate, get_protocol
from ld3m_plugin.evaluation.predictions import PREDICTIONS, save_predictions
from ld3m_plugin.evaluation.protocols import check_learned
from ld3m_plugin.registry import Registry, use_registry
from ld3m_plugin.runs import folder as folders
from ld3m_plugin.runs.checkpoints import latest_checkpoint, save_checkpoint, set_damaged_aside
from ld3m_plugin.runs.places import moved, said_if_missing, same_places
from ld3m_plugin.runs.provenance import check_same_origin, environment, metadata
from ld3m_plugin.runs.reporter import Reporter as Reporter  # its former place
from ld3m_plugin.runs.run_trackers import RunTrackers
from ld3m_plugin.runs.start_pictures import save_start, save_start_now
from ld3m_plugin.runs.step_recording import StepRecorder
from ld3m_plugin.storage import complete_folder, signals_held, write_json, write_text


@dataclass(frozen=True)
class RunResult:
    """The result of a run; `evaluation` is of the final images."""

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
    """Run a configuration into a new or empty folder.

    A mistake that shows in the first step leaves the folder as it was.

    Raises:
        UsageError: something is in the folder, or the configuration is not valid.
        HostError: the run failed; what was finished is in the folder.
    """
    with use_registry(registry):
        if folders.is_taken(folder):
            raise UsageError(f"{folder} is not empty: choose another --out, or go on with --resume {folder}")
        with folders.claimed(folder):
            return _start(config, folder, task, reporter or Reporter())


def _start(config: RunConfig, folder: Path, task: Task | None, reporter: Reporter) -> RunResult:
    if folders.is_taken(folder):
        raise UsageError(f"{folder} was used by another process meanwhile: choose another --out")
    state = Distillation(completed(config), task=task)
    _check_evaluation(state)
    folders.write_start(folder, state.config, environment(state))
    try:
        return _Run(state, folder, reporter).run()
    except NonFiniteError:
        raise  # its message promises that the state is kept
    except Exception:
        if state.iteration == 0 < state.config.steps:
            folders.undo_create(folder)
        raise


def resume(
    folder: Path,
    *,
    device: str | None = None,
    places: Iterable[tuple[str, Any]] = (),
    config: RunConfig | None = None,
    task: Task | None = None,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Go on with the run in `folder` from its newest checkpoint, bit for bit as if it had not stopped.

    Args:
        device: another device than the run's; bits then differ.
        places: where data, prior or experts lie now, as dotted paths and values such as `("data.options.root", "/new")`.
            What is there must be what the run was made with; then `config.yaml` names the new places.
        config: completed settings in place of the run's; they may differ in places and in what decides no image.

    Raises:
        ArtefactError: there is no run there, its checkpoint does not fit its settings, or its data has changed.
        UsageError: `places` has a setting that is no place.
    """
    with use_registry(registry):
        folders.read_config(folder)  # without a run there, nothing is locked
        with folders.claimed(folder, "copy the folder and go on with the copy"):
            return _resume(folder, device, places, config, task, reporter or Reporter())


def _resume(
    folder: Path,
    device: str | None,
    places: Iterable[tuple[str, Any]],
    wanted: RunConfig | None,
    task: Task | None,
    reporter: Reporter,
) -> RunResult:
    former = folders.read_config(folder)
    config = moved(wanted or former, places)
    checkpoint = latest_checkpoint(folder, {digest(former), former_digest(former)}, reporter.warn)
    with said_if_missing(config, folder):
        if task is None:
            task = load_task(config.data.name, **recorded_options(config.data.name, config.data.options))
        state = Distillation(config if device is None else config.model_copy(update={"device": device}), task=task)
        check_same_origin(folder, state)
    _check_evaluation(state)
    config = state.config.model_copy(update={"device": config.device})
    if not folders.read_environment(folder):
        path = folder / folders.ENVIRONMENT
        if path.is_dir():
            raise ArtefactError(f"{path} is a folder: remove it, then go on")
        reporter.warn(
            f"{path} is missing or damaged, so the data cannot be compared with the run's: it is written again"
        )
        write_json(path, environment(state))
    if config != former:
        if checkpoint is not None and not (same_places(config, former) and digest(config) == digest(former)):
            # One of version 0.1 fits the former places alone, and one of before the generator planned other options.
            save_checkpoint(folder, int(checkpoint["host/iteration"]), checkpoint, digest(config))
        write_text(folder / folders.CONFIG, dump(config))
    if checkpoint is not None:
        _load(state, checkpoint, folder)
        set_damaged_aside(folder, state.iteration)
    run = _Run(state, folder, reporter)
    folders.forget_metrics_after(folder, state.iteration, state.iteration if run.is_done else config.steps)
    return run.run()


def _load(state: Distillation, checkpoint: dict[str, Tensor], folder: Path) -> None:
    try:
        state.load_state_dict(checkpoint)
    except OutOfMemoryError:
        raise
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise ArtefactError(
            f"the newest checkpoint in {folder} does not fit ({one_line(str(error))}): it was written by other versions of "
            f"the generator or the objective, or delete {folder / folders.CHECKPOINTS} to start from the first step"
        ) from error


def _check_evaluation(state: Distillation) -> None:
    """Raise before the first step what would stop an evaluation after the last one."""
    settings = state.config.evaluation
    if settings.final or settings.every:
        needed = state.config.images_per_class if settings.final and settings.random_real else 0
        protocol = get_protocol(settings.protocol)
        check_learned(protocol, state.objective.learned())
        check_evaluation(state.task, protocol, settings.networks, needed)


class _Run:
    def __init__(self, state: Distillation, folder: Path, reporter: Reporter) -> None:
        self.state, self.folder, self.reporter = state, folder, reporter
        self.config = state.config
        self.best = folders.read_best(folder, state.iteration)
        self.trackers = RunTrackers(self.config, folder, reporter.warn)
        seconds = sum(folders.step_seconds(folder)[: state.iteration])
        self.steps = StepRecorder(self.trackers, reporter, seconds)

    @property
    def is_done(self) -> bool:
        """Whether all steps are made, or their time is up."""
        limit = self.config.seconds
        return self.state.iteration >= self.config.steps or (limit is not None and self.steps.seconds >= limit)

    def run(self) -> RunResult:
        self.reporter.started(self.state, self.folder)
        with self.trackers:
            self._distill()
            distilled = self._save()
            evaluation = self._evaluate_final(distilled) if self.config.evaluation.final else None
        return RunResult(self.folder, distilled, evaluation)

    def _distill(self) -> None:
        config, state = self.config, self.state
        # Not the state in memory at the time: a step that was cut short has drawn random numbers, may have trained the
        # objective's networks, and may have moved some latents. The copy costs far less than the step it protects.
        good, saved = state.state_dict(), -1
        with signals_held() as signals:  # from the signal that ends the steps until the last state is saved
            try:
                while not self.is_done:
                    with signals.let_through():
                        done = self._step()
                        good = state.last_good()
                    if config.checkpoint_every and done % config.checkpoint_every == 0:
                        saved = self._save_checkpoint(good)
            except Exception as error:
                if saved != int(good["host/iteration"]):
                    self._save_in_spite_of(error, good)
                raise
            except BaseException:  # the user is told that the run goes on from here: an error in saving comes first
                if saved != int(good["host/iteration"]):
                    self._save_checkpoint(good)
                raise
            if saved != int(good["host/iteration"]):
                self._save_checkpoint(good)

    def _step(self) -> int:
        """Make a step, and record all steps whose checks are read; returns its number."""
        step, every = self.state.step(), self.config.evaluation.every
        if step.iteration == 1:
            save_start(self.state, self.folder)
        self.steps.add(step)
        shown = self.trackers.images_due(step.iteration)
        # What is evaluated, shown or saved must be known to be good.
        if shown or any(each and step.iteration % each == 0 for each in (every, self.config.checkpoint_every)):
            self.state.read_checks()
        if self.state.is_read:
            self.steps.record()
        if shown:
            self._show_images(step.iteration)
        if every and step.iteration % every == 0 and not self.is_done:
            self._evaluate(self._distilled(), random_real=False)
        return step.iteration

    def _show_images(self, iteration: int) -> None:
        """Give the trackers that are due the present images as pictures."""
        state = self.state
        which = shown_indices(state.labels, MOST_SHOWN)
        pictures = state.task.denormalise(state.images()[which]).clamp(0, 1).cpu()
        self.trackers.log_images(iteration, pictures, state.labels[which], state.task.class_names)

    def _save_in_spite_of(self, error: Exception, state: dict[str, Tensor]) -> None:
        """Save the last good state; an error in that must not hide the one that ended the run."""
        try:
            self._save_checkpoint(state)
        except (HostError, OSError) as problem:
            if str(problem) != str(error):
                self.reporter.warn(f"the last state is not saved: {one_line(str(problem))}")

    def _save_checkpoint(self, state: dict[str, Tensor]) -> int:
        iteration = int(state["host/iteration"])
        save_checkpoint(self.folder, iteration, state, digest(self.config))
        return iteration

    def _distilled(self) -> DistilledSet:
        state = self.state
        latents = state.latents.clone().to("cpu")
        return DistilledSet(state.images().cpu(), state.labels, metadata(state), latents, state.task.whitening)

    def _save(self) -> DistilledSet:
        distilled = self._distilled()
        with signals_held(), complete_folder(self.folder / folders.DISTILLED) as folder:
            distilled.save(folder)
        try:
            save_start_now(distilled, self.folder)
        except HostError as problem:  # a picture for people: the images are kept
            self.reporter.warn(str(problem))
        # Exactly what is on disk is what gets evaluated.
        return DistilledSet.load(self.folder / folders.DISTILLED)

    def _evaluate_final(self, distilled: DistilledSet) -> Evaluation:
        final = self._evaluate(distilled, random_real=self.config.evaluation.random_real)
        distilled.metadata["results"] = {
            "final": {"step": self.state.iteration, **final.record()},
            "best_over_test_set_evaluations": self.best,
        }
        save_predictions(self.folder / folders.DISTILLED / PREDICTIONS, final)
        distilled.save_metadata(self.folder / folders.DISTILLED)
        return final

    def _evaluate(self, distilled: DistilledSet, *, random_real: bool) -> Evaluation:
        settings, iteration = self.config.evaluation, self.state.iteration
        evaluation = evaluate(
            distilled,
            self.state.task,
            **settings.model_dump(include={"networks", "protocol", "repeats", "test_per_class", "together"}),
            random_real=random_real,
            seed=self.config.seed,
            on_progress=self.reporter.evaluating,
        )
        for row in evaluation.rows:
            record = {"images": row.images, "network": row.network, "accuracies": row.accuracies}
            self.trackers.log({"step": iteration, **record, "protocol": evaluation.protocol.name})
        # The best mean over architectures is chosen on the test set, so it is never what a run reports.
        mean = evaluation.mean("distilled")
        if self.best is None or mean > self.best["mean"]:
            record = replace(evaluation, rows=tuple(r for r in evaluation.rows if r.images == "distilled")).record()
            self.best = {"step": iteration, "mean": mean, **record}
            write_json(self.folder / folders.BEST, self.best)
        self.reporter.evaluated(iteration, evaluation)
        return evaluation

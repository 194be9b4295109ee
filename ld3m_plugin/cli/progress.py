"""Progress of runs and of training priors and experts: a live bar on a terminal, one plain line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ld3m_plugin.cli.verbosity import is_heard, said
from ld3m_plugin.comparison.grid_runner import GridReporter
from ld3m_plugin.comparison.manifest import Manifest
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.distillation.step_record import Step
from ld3m_plugin.errors import visible
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.evaluation.evaluating import TrainingBegins
from ld3m_plugin.runs.checkpoints import checkpoint_folders
from ld3m_plugin.runs.folder import CONFIG
from ld3m_plugin.runs.reporter import Reporter

_PLAIN_INTERVAL, _FIRST_INTERVAL = 60.0, 5.0
# Weight of the newest step in the displayed speed: the first steps of a run are slow and must not count for long.
_SMOOTHING = 0.1


class LiveConsole:
    """Base of the reporters: a bar on a terminal, one plain line a minute elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        self._bar: TaskID | None = None
        self._seconds_a_step: float | None = None
        self._soon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._live.stop()

    def _start_bar(self, description: str, total: int, done: int) -> None:
        """Add a bar below the others, if the output is a terminal."""
        if self._console.is_terminal and not said.quiet:
            self._live.start()
            self._bar = self._live.add_task(visible(description), total=total, completed=done, note="")

    def _update_bar(self, **changes: Any) -> bool:
        """Change the newest bar; return False where there is none."""
        if self._bar is None:
            return False
        if "note" in changes:
            changes["note"] = visible(changes["note"])
        self._live.update(self._bar, **changes)
        return True

    def _show_step(self, what: str, done: int, total: int, note: str) -> None:
        if not self._update_bar(completed=done, note=note) and (self._due() or done == total):
            left = (total - done) * (self._seconds_a_step or 0.0)
            self.say(f"{what} {done} of {total}: {note}, {clock(left)} to go")

    def _speed_with(self, seconds: float) -> str:
        """Count one more step of that duration; return the smoothed speed as text."""
        old = self._seconds_a_step
        self._seconds_a_step = seconds if old is None else old + _SMOOTHING * (seconds - old)
        return f"{1 / max(self._seconds_a_step, 1e-9):.2f} it/s"

    def _soon(self) -> None:
        """Let the next line come after a few seconds: the first one says how long it will take."""
        self._said, self._interval = time.monotonic(), _FIRST_INTERVAL

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._said < self._interval:
            return False
        self._said, self._interval = now, _PLAIN_INTERVAL
        return True

    def say(self, text: str) -> None:
        """Print a line above the bars; with `ld3m -q`, warnings alone."""
        if not is_heard(text):
            return
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


class ConsoleReporter(LiveConsole, Reporter):
    """Report loss, steps per second, time to go and the best accuracy so far."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._best: tuple[float, int] | None = None
        self._speed = ""
        self._folder: Path | None = None
        self.expect_trainings(0)

    def started(self, state: Distillation, folder: Path) -> None:
        config = state.config
        # A comparison has several runs: forget best and speed of the last one.
        self._folder, self._best, self._seconds_a_step = folder, None, None
        self._soon()
        tests = config.evaluation
        self.expect_trainings(len(tests.networks) * (tests.repeats or 1) * (1 + tests.random_real))
        self.say(state.task.described())
        self.say(
            f"distilling {len(state.labels)} images ({config.images_per_class} a class, {state.task.image_size}x"
            f"{state.task.image_size}) with generator {config.generator.name!r} and objective {config.objective.name!r} "
            f"on {state.task.device}, run folder {folder}"
        )
        chosen = [f"{name}={value}" for name, value in state.plan.options.items()]
        if state.plan.rows is not None and state.plan.rows == config.render_batch:
            chosen.append(f"--render-batch {config.render_batch}")
        if chosen:
            self.say(f"generator {config.generator.name!r} chose {' and '.join(chosen)} from sizes alone")
        for note in state.objective.notes():
            self.say(f"note: {note}")
        self._start_bar(f"distil {config.generator.name}", config.steps, state.iteration)

    def step(self, step: Step) -> None:
        self._speed = f"loss {step.loss:.4g}, {self._speed_with(step.seconds)}"
        self._show_step("step", step.iteration, step.state.config.steps, self._note())

    def expect_trainings(self, total: int) -> None:
        """Say how many networks an evaluation trains, for the time to go."""
        self._trainings, self._trained, self._training_since = total, 0, time.monotonic()

    def evaluating(self, what: str) -> None:
        what += self._trainings_to_go(what)
        if not self._update_bar(note=f"evaluating {what}") and self._due():
            self.say(f"evaluating {what}")

    def _trainings_to_go(self, what: str) -> str:
        """Count the networks whose training begins; tell the time to go."""
        if not isinstance(what, TrainingBegins) or not self._trainings:
            return ""
        if self._trained == 0 or self._trained >= self._trainings:  # the first one, also of the next evaluation
            self.expect_trainings(self._trainings)
        done, self._trained = self._trained, self._trained + what.networks
        left = (time.monotonic() - self._training_since) / done * (self._trainings - done) if done else None
        return f" (network {done + 1} of {self._trainings}{'' if left is None else f', {clock(left)} to go'})"

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        mean = evaluation.mean("distilled")
        if self._best is None or mean > self._best[0]:
            self._best = (mean, iteration)
        self._update_bar(note=self._note())
        for row in evaluation.rows:
            self.say(f"step {iteration}: {row.network} on {row.images}: {row} % ({evaluation.protocol.name})")

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")

    def stopped(self) -> None:
        """Print how to go on, after Ctrl-C."""
        if self._folder is not None:
            self.say(f"stopped; go on with: ld3m distill --resume {self._folder}")

    def kept(self) -> str:
        """Say what is left of a run that the machine stopped, and how to go on."""
        if self._folder is None or not self._folder.is_dir():
            return ""
        checkpoints = checkpoint_folders(self._folder)
        if checkpoints:
            return f"{checkpoints[-1]} is kept, go on with: ld3m distill --resume {self._folder}"
        if (self._folder / CONFIG).exists():  # the same command finds the folder taken
            return f"no checkpoint was written, start from the first step with: ld3m distill --resume {self._folder}"
        return "no checkpoint was written, start again"

    def _note(self) -> str:
        best = "" if self._best is None else f", best {self._best[0]:.1f} % at {self._best[1]}"
        return self._speed + best


class GridConsole(GridReporter):
    """Report rows of a comparison as they end, and the time to go."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def say(self, message: str) -> None:
        if not is_heard(message):
            return
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")

    def changed(self, manifest: Manifest, counts: Mapping[str, int], left_seconds: float | None) -> None:
        to_go = "" if left_seconds is None else f", {clock(left_seconds)} to go"
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        self.say(f"rows: {said}{to_go if counts.get('waiting') or counts.get('running') else ''}")


class TrainingConsole(LiveConsole, TrainingReporter):
    """Report the phase, its numbers, steps per second and time to go."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._phase, self._unit, self._total, self._done = "training", "step", 0, 0
        self._at = time.monotonic()

    def phase(self, name: str, total: int, done: int = 0, unit: str = "step") -> None:
        self._phase, self._unit, self._total, self._done = name, unit, total, done
        self._at, self._seconds_a_step = time.monotonic(), None
        self._soon()
        before = f", {done} of them made before" if done else ""
        self.say(f"{name}: {total} {_several(unit)}{before}")
        self._start_bar(name, total, done)

    def step(self, done: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        # Some kinds report each step, others one in a hundred.
        speed = self._speed_with((now - self._at) / max(done - self._done, 1))
        self._done, self._at = done, now
        numbers = [f"{name} {value:.4g}" for name, value in values.items()]
        self._show_step(f"{self._phase}, {self._unit}", done, self._total, ", ".join([*numbers, speed]))

    def stopped(self) -> None:
        """Print how to go on, after Ctrl-C."""
        self.say("stopped; the same command goes on")

    def kept(self) -> str:
        """Say what is left of a training that the machine stopped, and how to go on."""
        return "what was finished is kept, the same command goes on"


def _several(unit: str) -> str:
    return f"{unit}es" if unit.endswith("s") else f"{unit}s"


def clock(seconds: float) -> str:
    """Format a duration as minutes and seconds, with hours if there are any.

    >>> clock(61.5), clock(3600)
    ('1:02', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

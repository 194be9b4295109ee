"""Progress of a run: a live line on a terminal, one plain line a minute elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.loop import Distillation, Step
from ld3m_plugin.run import Reporter

_PLAIN_INTERVAL = 60.0
# Weight of the newest step in the speed that is shown: the first steps of a run are slow and should be forgotten.
_SMOOTHING = 0.1


class ConsoleReporter(Reporter):
    """Shows loss, steps a second, time to go and the best accuracy so far."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live: Progress | None = None
        self._bar: TaskID | None = None
        self._seconds_a_step: float | None = None
        self._best: tuple[float, int] | None = None
        self._speed = ""
        self._said = time.monotonic()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, state: Distillation, folder: Path) -> None:
        config = state.config
        self._folder = folder
        self._say(f"data: {state.task.source}")
        self._say(
            f"distilling {len(state.labels)} images ({config.images_per_class} a class, {state.task.image_size}x"
            f"{state.task.image_size}) with generator {config.generator.name!r} and objective {config.objective.name!r} "
            f"on {state.task.device}, run folder {folder}"
        )
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._bar = self._live.add_task("distil", total=config.steps, completed=state.iteration, note="")
            self._live.start()

    def step(self, step: Step) -> None:
        old = self._seconds_a_step
        self._seconds_a_step = step.seconds if old is None else old + _SMOOTHING * (step.seconds - old)
        self._speed = f"loss {step.loss:.4g}, {1 / max(self._seconds_a_step, 1e-9):.2f} it/s"
        note = self._note()
        if self._live is not None and self._bar is not None:
            self._live.update(self._bar, completed=step.iteration, note=note)
            return
        total = step.state.config.steps
        if self._due() or step.iteration == total:
            left = (total - step.iteration) * self._seconds_a_step
            self._say(f"step {step.iteration} of {total}: {note}, {_clock(left)} to go")

    def evaluating(self, what: str) -> None:
        if self._live is not None and self._bar is not None:
            self._live.update(self._bar, note=f"evaluating {what}")
        elif self._due():
            self._say(f"evaluating {what}")

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        mean = evaluation.mean("distilled")
        if self._best is None or mean > self._best[0]:
            self._best = (mean, iteration)
        if self._live is not None and self._bar is not None:
            self._live.update(self._bar, note=self._note())
        for row in evaluation.rows:
            self._say(f"step {iteration}: {row.network} on {row.images}: {row} % ({evaluation.protocol.name})")

    def warn(self, message: str) -> None:
        self._say(f"warning: {message}")

    def stopped(self) -> None:
        """After Ctrl-C: how to go on."""
        if self._folder is not None:
            self._say(f"stopped; go on with: ld3m distill --resume {self._folder}")

    def _note(self) -> str:
        best = "" if self._best is None else f", best {self._best[0]:.1f} % at {self._best[1]}"
        return self._speed + best

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._said < _PLAIN_INTERVAL:
            return False
        self._said = now
        return True

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(evaluation: Evaluation, console: Console | None = None) -> None:
    """The table of accuracies: an architecture a row, a column for each kind of images."""
    from rich.table import Table

    kinds = list(dict.fromkeys(row.images for row in evaluation.rows))
    table = Table(
        title=f"test accuracy in % of {evaluation.test_images} images, mean +- std, protocol {evaluation.protocol.name}"
    )
    table.add_column("network")
    for kind in kinds:
        table.add_column(kind, justify="right")
    for network in dict.fromkeys(row.network for row in evaluation.rows):
        cells = {row.images: str(row) for row in evaluation.rows if row.network == network}
        table.add_row(network, *(cells.get(kind, "") for kind in kinds))
    (console or Console()).print(table)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

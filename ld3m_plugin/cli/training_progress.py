"""Progress of training priors and experts: a bar for each phase on a terminal, one plain line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console

from ld3m_plugin.cli.progress import LiveConsole
from ld3m_plugin.contracts import TrainingReporter


class TrainingConsole(LiveConsole, TrainingReporter):
    """Report the phase, its numbers, steps per second and time to go."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._phase, self._total, self._done = "training", 0, 0
        self._at = time.monotonic()

    def phase(self, name: str, total: int, done: int = 0) -> None:
        self._phase, self._total, self._done = name, total, done
        self._at, self._seconds_a_step = time.monotonic(), None
        before = f", {done} of them made before" if done else ""
        self.say(f"{name}: {total} steps{before}")
        self._start_bar(name, total, done)

    def step(self, done: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        # Some kinds report each step, others one in a hundred.
        speed = self._speed_with((now - self._at) / max(done - self._done, 1))
        self._done, self._at = done, now
        numbers = [f"{name} {value:.4g}" for name, value in values.items()]
        self._show_step(f"{self._phase}, step", done, self._total, ", ".join([*numbers, speed]))

    def stopped(self) -> None:
        """Print how to go on, after Ctrl-C."""
        self.say("stopped; the same command goes on")

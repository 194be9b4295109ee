"""The records of a run's steps: given to trackers and reporter as soon as their numbers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin.distillation.step_record import Step, read_steps
from ld3m_plugin.runs.run_trackers import RunTrackers

if TYPE_CHECKING:
    from ld3m_plugin.runs.reporter import Reporter


class StepRecorder:
    """Holds steps back until their checks are read: on the CPU never, on another device for some steps.

    Attributes:
        seconds: of all recorded steps.
    """

    def __init__(self, trackers: RunTrackers, reporter: Reporter, seconds: float) -> None:
        self._trackers, self._reporter, self.seconds = trackers, reporter, seconds
        self._held: list[Step] = []

    def add(self, step: Step) -> None:
        """Hold a step, the next in order."""
        self._held.append(step)

    def record(self) -> None:
        """Record the steps that are held; their numbers are read from the device in one copy."""
        steps, self._held = read_steps(self._held), []
        for step in steps:
            norms = {f"gradient_norm/{name}": norm for name, norm in step.gradient_norms.items()}
            record = {"step": step.iteration, "loss": step.loss, **step.metrics, **norms}
            seconds = round(step.seconds, 4)
            self.seconds += seconds
            self._trackers.log({**record, "seconds": seconds})
            self._reporter.step(step)

"""What a run tells while it goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ld3m_plugin.distillation.loop import Distillation
    from ld3m_plugin.distillation.step_record import Step
    from ld3m_plugin.evaluation import Evaluation

_log = logging.getLogger(__name__)


class Reporter:
    """Receives what a run tells while it goes on; the base class logs it, each step at the level DEBUG."""

    def started(self, state: Distillation, folder: Path) -> None:
        """Called before the first step."""
        chosen = state.config
        _log.info("generator %r, objective %r, run folder %s", chosen.generator.name, chosen.objective.name, folder)
        for note in state.objective.notes():
            _log.info("%s", note)

    def step(self, step: Step) -> None:
        """Called for each update, in order: at once on the CPU, in bunches where a device works behind the host."""
        _log.debug("step %d of %d: loss %.4g", step.iteration, step.state.config.steps, step.loss)

    def evaluating(self, what: str) -> None:
        """Called when the training of a network starts."""
        _log.info("evaluating %s", what)

    def evaluated(self, iteration: int, evaluation: Evaluation) -> None:
        """Called with each table of accuracies."""
        for row in evaluation.rows:
            _log.info(
                "step %d: %s on %s: %s %% (%s)", iteration, row.network, row.images, row, evaluation.protocol.name
            )

    def say(self, message: str) -> None:
        """Called with a line that is worth showing."""
        _log.info("%s", message)

    def warn(self, message: str) -> None:
        """Called with a problem that does not stop the run."""
        _log.warning("%s", message)

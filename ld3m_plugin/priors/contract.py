"""The contract of a kind of prior: training, conversion and description of a family of pre-trained models."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ld3m_plugin.options import Options

if TYPE_CHECKING:  # the options of a kind are read without torch
    from ld3m_plugin.task import Task


_log = logging.getLogger(__name__)


class TrainingReporter:
    """Receives the progress of a training; the base class logs it, each step at the level DEBUG."""

    def phase(self, name: str, total: int, done: int = 0, unit: str = "step") -> None:
        """Begin a phase of `total` steps, of which a stopped training already made `done`. Called before the first `step`.

        Args:
            unit: what is counted, in the singular, such as "epoch".
        """
        _log.info("%s: %d of %d (%s)", name, done, total, unit)

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Report that `done` steps of the phase are made; `values` are numbers by name, such as the loss."""
        _log.debug("%d: %s", done, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def say(self, text: str) -> None:
        """Show one line to the user, such as a measured quality."""
        _log.info("%s", text)


class PriorKind(ABC):
    """A family of pre-trained models.

    A prior is a folder of data: reading it must never execute anything. Kinds are constructed without arguments and keep no
    state. They raise `PriorError` for weights that are missing, damaged, or do not fit.
    """

    TrainingOptions: ClassVar[type[Options]] = Options
    ConversionOptions: ClassVar[type[Options]] = Options

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` is a prior of this kind, or a file it can convert.

        Must be cheap (names and first bytes), and must not raise for a readable path.
        """

    def find(self, name: str) -> Path | None:
        """Return the folder of a prior that has a name, such as one that is shipped; None: this kind does not know it."""
        return None

    @abstractmethod
    def train(self, task: Task, out: Path, options: Options, *, seed: int, reporter: TrainingReporter) -> None:
        """Train on the task and write the prior folder `out`; continue a stopped training in the same folder.

        Args:
            task: real training images and facts; its test set is only for the quality report.
            out: missing, empty, or left by a stopped training of this kind; its parent exists.
            options: an instance of `TrainingOptions`.
            seed: all random streams are spawned from it.
            reporter: receives every phase and step.

        Raises:
            PriorError: the stopped training had other settings or data.
        """

    @abstractmethod
    def convert(self, source: Path, out: Path, options: Options) -> None:
        """Write the prior folder `out` from a file or folder that was published in another format.

        Args:
            source: exists, and must not be changed.
            out: an empty folder; it becomes visible to the user only if this method ends without an error.
            options: an instance of `ConversionOptions`.

        Raises:
            PriorError: this kind cannot convert `source`.
        """

    @abstractmethod
    def describe(self, path: Path) -> dict[str, str]:
        """Return facts by title, in the order to show them.

        Raises:
            PriorError: `path` is not a complete prior of this kind.
        """

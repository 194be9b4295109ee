"""The contract of a kind of prior: how a family of pre-trained models is trained, converted and described."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ld3m_plugin.options import Options
from ld3m_plugin.task import Task


class TrainingReporter:
    """What a training tells while it goes on; the base class keeps silent."""

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """A phase of `total` steps begins, `done` of them made before a stop. It comes before the first `step`."""

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """`done` steps of the phase have been made; `values` are its numbers by name, such as the loss."""

    def say(self, text: str) -> None:
        """One line for the user, such as a measured quality."""


class PriorKind(ABC):
    """A family of pre-trained models: how one is trained, converted from the format it was published in, and described.

    A prior is a folder that holds data alone: nothing in it is executed when it is read. Objects are made without
    arguments and keep no state. `PriorError` is for weights that are missing, damaged, or do not fit what is asked of them.
    """

    TrainingOptions: ClassVar[type[Options]] = Options
    ConversionOptions: ClassVar[type[Options]] = Options

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` is a prior of this kind, or a file it can convert.

        Cheap, by names and first bytes; never raises for a path that can be read.
        """

    def find(self, name: str) -> Path | None:
        """The folder of a prior that goes by a name and not by a path, such as one that is shipped; None: not known here."""
        return None

    @abstractmethod
    def train(self, task: Task, out: Path, options: Options, *, seed: int, reporter: TrainingReporter) -> None:
        """Train on the task and write the prior folder to `out`; go on where a stopped training in the same folder ended.

        Args:
            task: real training images and facts; its test set is for the quality report alone.
            out: missing, empty, or what a training of this kind left when it stopped; its parent is there.
            options: an instance of `TrainingOptions`.
            seed: all random streams are spawned from it.
            reporter: is told of every phase and step.

        Raises:
            PriorError: the stopped training had settings or data that do not fit these.
        """

    @abstractmethod
    def convert(self, source: Path, out: Path, options: Options) -> None:
        """Write the prior folder `out` from a file or folder that was published in another format.

        Args:
            source: is there, and is not changed.
            out: an empty folder; the user sees it only when this method has ended without an error.
            options: an instance of `ConversionOptions`.

        Raises:
            PriorError: `source` is not what this kind converts.
        """

    @abstractmethod
    def describe(self, path: Path) -> dict[str, str]:
        """Facts by title, in the order they are shown.

        Raises:
            PriorError: `path` is no complete prior of this kind.
        """

"""The contract of a kind of prior: how a family of pre-trained models is trained, converted and described."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from ld3m_plugin.options import BackendOptions
from ld3m_plugin.reporting import TrainingReporter
from ld3m_plugin.task import Task

#: The name it has in the contract of a kind of prior.
PriorReporter = TrainingReporter


class PriorKind(ABC):
    """A family of pre-trained models: how one is trained, converted from the format it was published in, and described.

    A prior is a folder that holds data alone: nothing in it is executed when it is read. Objects are made without
    arguments and keep no state. `PriorError` is for weights that are missing, damaged, or do not fit what is asked of them.
    """

    TrainingOptions: ClassVar[type[BackendOptions]] = BackendOptions
    ConversionOptions: ClassVar[type[BackendOptions]] = BackendOptions

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` is a prior of this kind, or a file it can convert.

        Cheap, by names and first bytes; never raises for a path that can be read.
        """

    def find(self, name: str) -> Path | None:
        """The folder of a prior that goes by a name and not by a path, such as one that is shipped; None: not known here."""
        return None

    @abstractmethod
    def train(self, task: Task, out: Path, options: BackendOptions, *, seed: int, reporter: PriorReporter) -> None:
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
    def convert(self, source: Path, out: Path, options: BackendOptions) -> None:
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

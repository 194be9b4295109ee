"""The contract of launchers: they run the rows of a comparison in processes of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ld3m_plugin.options import BackendOptions, build

#: Where the process of a row is: not begun, at work, or ended (well or not: its row says how).
JobState = Literal["waiting", "running", "ended"]


@dataclass(frozen=True)
class Job:
    """One row to be made: a command that leaves its result in the comparison's folder, and that may be given again.

    Attributes:
        name: a name for people, also that of its log.
        command: program and arguments; SIGTERM makes it write a checkpoint and end.
        environment: variables to set beside those of this process.
        log: file that takes what the command prints; its folder exists.
        threads: processors that it uses.
    """

    id: str
    name: str
    command: tuple[str, ...]
    log: Path
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


class Launcher(ABC):
    """Runs jobs, each in a process of its own, never one twice at a time.

    Results and failures are read from the comparison's folder, never from the launcher. Options are a model in `Options`.
    """

    Options: ClassVar[type[BackendOptions]] = BackendOptions
    #: More arguments of `ld3m compare row`: `--until-end-of-input` where the end of standard input should end a row.
    row_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: BackendOptions | None = None, **keywords: Any) -> None:
        self.options: Any = build(self.Options, keywords, type(self).__name__) if options is None else options

    @abstractmethod
    def start(self, jobs: Sequence[Job], folder: Path) -> None:
        """Take the jobs and return at once; called once.

        Args:
            folder: where the launcher may keep files of its own; the same at the next call for the same comparison.

        Raises:
            HostError: they cannot be run, with what to do.
        """

    @abstractmethod
    def poll(self) -> Mapping[str, JobState]:
        """The state of each job by id; also where a launcher begins the next ones. Called a few times a second."""

    @abstractmethod
    def stop(self) -> None:
        """End all jobs, with a checkpoint where they can; return when they have ended. May be called again."""

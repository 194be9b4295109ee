"""The folder of a store: `settings.json`, which says what is in it, and one file an expert."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store.description import SETTINGS, Description, Wanted, read_settings, store_folders
from ld3m_plugin.objectives.mtt.store.expert_files import Header, cannot_write, expert_files, file_name, read_header
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings, TrainingOptions
from ld3m_plugin.objectives.mtt.store.store_identity import (
    Shapes,
    command,
    decisive,
    differences,
    key_of,
    parameter_shapes,
)
from ld3m_plugin.storage import is_temporary, own_temporary, remove_leftovers, versions, write_json

_SHOWN = 3


@dataclass(frozen=True)
class Store:
    """The experts of one task and one choice of settings below a root.

    Attributes:
        settings: what is asked for; `count` and `epochs` may be less or more than is there.
        shapes: names and shapes of the network's parameters.
    """

    root: Path
    task: Task
    settings: ExpertSettings
    key: str
    shapes: Shapes

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.root / self.key

    @property
    def length(self) -> int:
        """P, the number of parameters."""
        return sum(prod(shape) for _, shape in self.shapes)

    def command(self, headers: Mapping[int, Header], last_epoch: int) -> str:
        """The command line that trains what is missing up to `last_epoch`, and leaves what is there as it is.

        Args:
            headers: experts that are there. Trained ones that reach `last_epoch` decide where the others may end.
        """
        epochs = max(self.settings.epochs, last_epoch)
        enough = [header.epochs[-1] for header in headers.values() if header.epochs[-1] >= last_epoch]
        kept = min([epochs, *enough])
        how = {"epochs": epochs, "keep_epochs": None if kept == epochs else kept, "dtype": self._dtype_there()}
        return command(self.root, self.task, TrainingOptions(**{**self.settings.model_dump(), **how}))

    def headers(self, below: int | None = None) -> dict[int, Header]:
        """What is there by number, in order.

        Args:
            below: leave out higher numbers; default: all.

        Raises:
            ExpertError: the folder is somebody else's, or a file in it is damaged or of other settings.
        """
        if self._described() is None:
            return {}
        return {
            number: self._checked(number, path)
            for number, path in expert_files(self.folder).items()
            if below is None or number < below
        }

    def header(self, number: int) -> Header | None:
        """What is there under a number, at this moment.

        Raises:
            ExpertError: it is damaged, or of other settings.
        """
        path = self.folder / file_name(number)
        return self._checked(number, path) if path.exists() else None

    def check(self, dtype: str) -> None:
        """Whether experts of this dtype can be added; nothing is written.

        Raises:
            ExpertError: the folder is somebody else's.
            UsageError: the experts that are there are of another dtype, or the root is a file.
        """
        described = self._described()
        if described is not None and described.dtype != dtype and expert_files(self.folder):
            raise UsageError(
                f"{self.folder} holds {described.dtype} experts: give -S dtype={described.dtype}, or another --root"
            )

    def prepare(self, count: int, epochs: int, dtype: str) -> None:
        """Make the folder if need be, and write down how much of it is wanted.

        Raises:
            ExpertError, UsageError: the folder is somebody else's, or cannot be written.
        """
        described = self._described()
        before = Wanted(count=0, epochs=0) if described is None else described.wanted
        content = {
            "key": self.key,
            **decisive(self.task, self.settings),
            "dtype": dtype,
            "wanted": {"count": max(count, before.count), "epochs": max(epochs, before.epochs)},
            "task": {
                "name": self.task.name,
                "source": self.task.source,
                "class_names": list(self.task.class_names),
                "images": sum(self.task.train.counts()),
                "image_size": self.task.image_size,
                "channels": self.task.channels,
            },
            "parameters": self.length,
            "versions": versions(),
        }
        self._write(content)

    def nearest(self) -> str:
        """Which store below the root has nearly these settings, and in what it differs; empty if none is of this data."""
        facts = decisive(self.task, self.settings)
        found = []
        for folder in store_folders(self.root):
            with suppress(ExpertError):  # one that cannot be read is not told about here, but by `ld3m experts list`
                there = read_settings(folder)
                if folder.name != self.key and there.data == facts["data"]:
                    found.append((differences(there.settings, facts["settings"]), folder.name))
        if not found:
            return ""
        differing, name = min(found, key=lambda pair: len(pair[0]))
        shown = [f"{path}: {there!r} there, {here!r} asked" for path, (there, here) in differing.items()]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f" ({name} is of the same data and differs in {'; '.join(shown[:_SHOWN])}{more})"

    def _write(self, content: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        temporary = own_temporary(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            write_json(path, content, temporary)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
                self.folder.rmdir()  # which only works while nothing is in it
            raise cannot_write(path, error) from error

    def _dtype_there(self) -> str:
        described = self._described()
        return "float32" if described is None else described.dtype

    def _described(self) -> Description | None:
        """What the folder says of itself; None if it is not there, or nothing is in it yet."""
        place = existing(self.folder)
        if not place.is_dir():
            if place == self.folder:
                raise ExpertError(f"{place} is a file, and experts would be kept in a folder there: move it away")
            raise UsageError(f"{place} is a file: name a folder as --root")
        if place != self.folder or all(map(is_temporary, self.folder.iterdir())):
            return None
        described = read_settings(self.folder)
        if described.key != self.key:
            raise ExpertError(
                f"{self.folder} was made for {described.key}: give the folder its own name back, or move it away"
            )
        return described

    def _checked(self, number: int, path: Path) -> Header:
        header = read_header(path)
        if header.key != self.key or header.expert != number:
            raise ExpertError(
                f"{path} is expert {header.expert} of {header.key}, not expert {number} of {self.key}: move it away"
            )
        self._check_shapes(path, header)
        return header

    def _check_shapes(self, path: Path, header: Header) -> None:
        if header.parameters != self.shapes:
            raise ExpertError(
                f"{path} has other parameters than network {self.settings.network!r} has now: the network has changed "
                f"since; train experts anew in another --root"
            )


def store_of(root: Path, task: Task, settings: ExpertSettings) -> Store:
    """The store of these settings below `root`, whether it is there or not."""
    return Store(root, task, settings, key_of(task, settings), parameter_shapes(task, settings))


def existing(path: Path) -> Path:
    """`path`, or the nearest of the folders above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path

"""The folder of a store: `settings.json`, which describes its content, and one file per expert."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store.description import SETTINGS, Description, read_settings, store_folders
from ld3m_plugin.objectives.mtt.store.expert_files import (
    DTYPES,
    Header,
    cannot_write,
    digests_of,
    expert_files,
    file_name,
    read_header,
    write_expert,
)
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings, TrainingOptions
from ld3m_plugin.objectives.mtt.store.store_identity import (
    Shapes,
    as_option,
    decisive,
    differences,
    key_of,
    parameter_shapes,
)
from ld3m_plugin.storage import check_writable, is_temporary, remove_leftovers, versions, write_json

_SHOWN = 3


@dataclass(frozen=True)
class Store:
    """The experts of one task and one choice of settings below a root.

    Attributes:
        settings: what the caller wants; the folder may have more or less than `count` and `epochs`.
        shapes: names and shapes of the network's parameters.
    """

    root: Path
    task: Task
    settings: ExpertSettings
    key: str
    shapes: Shapes

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.root / self.key

    @property
    def length(self) -> int:
        """P, the number of parameters."""
        return sum(prod(shape) for _, shape in self.shapes)

    def command(self, headers: Mapping[int, Header], last_epoch: int) -> str:
        """The command line that trains the missing experts up to `last_epoch` and retrains none that reaches it.

        Args:
            headers: the experts of the folder. New ones end at the earliest epoch of those that reach `last_epoch`.
        """
        epochs = max(self.settings.epochs, last_epoch)
        enough = [header.epochs[-1] for header in headers.values() if header.epochs[-1] >= last_epoch]
        kept, described = min([epochs, *enough]), self._described()
        how = {
            "epochs": epochs,
            "keep_epochs": None if kept == epochs else kept,
            "dtype": described.dtype if described else "float32",
        }
        options = TrainingOptions(**{**self.settings.model_dump(), **how})
        chosen = options.model_dump(mode="json", exclude_defaults=True)
        words = ["ld3m", "experts", "train", "--root", str(self.root), "--data", self.task.name]
        for flag, values in (("-D", self.task.read_with), ("-S", chosen)):
            for name, value in values.items():
                words += [flag, f"{name}={as_option(value)}"]
        return shlex.join(words)

    def headers(self, below: int | None = None) -> dict[int, Header]:
        """Read the headers of the experts, by number and in order.

        Args:
            below: leave out this and higher numbers; default: none.

        Raises:
            ExpertError: the folder is not this store's, or a file in it is damaged or of other settings.
        """
        if self._described() is None:
            return {}
        numbers = [number for number in expert_files(self.folder) if below is None or number < below]
        return {number: header for number in numbers if (header := self.header(number)) is not None}

    def header(self, number: int) -> Header | None:
        """Read the header of one expert; None if there is no such file at this moment.

        Raises:
            ExpertError: it is damaged, or of other settings.
        """
        path = self.folder / file_name(number)
        if not path.exists():
            return None
        header = read_header(path)
        if header.key != self.key or header.expert != number:
            raise ExpertError(
                f"{path} is expert {header.expert} of {header.key}, not expert {number} of {self.key}: move it away"
            )
        if header.parameters != self.shapes:
            raise ExpertError(
                f"{path} does not have the parameters of network {self.settings.network!r}, which has changed since: train "
                "again in another --root"
            )
        return header

    def check(self, dtype: str) -> None:
        """Check that experts of this dtype can be added, without writing.

        Raises:
            ExpertError: the folder is not this store's.
            UsageError: its experts have another dtype, or the root is a file.
        """
        described = self._described()
        if described is not None and described.dtype != dtype and expert_files(self.folder):
            raise UsageError(
                f"{self.folder} holds {described.dtype} experts: give -S dtype={described.dtype}, or another --root"
            )

    def check_place(self) -> None:
        """Raise `UsageError` if the folder, or the nearest one above it that exists, cannot be written; leave no trace."""
        check_writable(self.folder, "give another --root")

    def prepare(self, count: int, epochs: int, dtype: str) -> None:
        """Make the folder if it is missing, and write what it is to hold into `settings.json`.

        Raises:
            ExpertError, UsageError: the folder is not this store's, or cannot be written.
        """
        described = self._described()
        if described is not None:
            count, epochs = max(count, described.wanted.count), max(epochs, described.wanted.epochs)
        task = self.task
        content = {
            "key": self.key,
            **decisive(task, self.settings),
            "dtype": dtype,
            "wanted": {"count": count, "epochs": epochs},
            "task": {
                "name": task.name,
                "source": task.source,
                "class_names": list(task.class_names),
                "images": sum(task.train.counts()),
                "image_size": task.image_size,
                "channels": task.channels,
            },
            "parameters": self.length,
            "versions": versions(),
        }
        path = self.folder / SETTINGS
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            write_json(path, content)
        except OSError as error:
            with suppress(OSError):
                self.folder.rmdir()  # works only on an empty folder
            raise cannot_write(path, error) from error

    def add(
        self,
        number: int,
        rows: Tensor,
        *,
        losses: Sequence[float] = (),
        imported_from: str | None = None,
    ) -> None:
        """Write one expert.

        Args:
            rows: its weights (epochs, P) before training and after each epoch, of one of the `DTYPES`.
            losses: mean training loss of each epoch; empty if unknown.
            imported_from: name of the file it was copied from; default: it was trained here.

        Raises:
            ExpertError: it cannot be written.
        """
        header = Header(
            key=self.key,
            settings=decisive(self.task, self.settings),
            expert=number,
            seed=self.settings.seed,
            epochs=tuple(range(len(rows))),
            parameters=self.shapes,
            dtype="bf16" if rows.dtype == DTYPES["bf16"] else "float32",
            losses=tuple(losses),
            imported=imported_from is not None,
            source=imported_from or "trained",
            digests=digests_of(rows),
        )
        write_expert(self.folder, header, rows)

    def nearest(self) -> str:
        """Name the store below the root with the same data and nearly these settings, and where it differs; or ""."""
        facts = decisive(self.task, self.settings)
        found = []
        for folder in store_folders(self.root):
            with suppress(ExpertError):  # `ld3m experts list` reports folders that cannot be read
                there = read_settings(folder)
                if folder.name != self.key and there.data == facts["data"]:
                    found.append((differences(there.settings, facts["settings"]), folder.name))
        if not found:
            return ""
        differing, name = min(found, key=lambda pair: len(pair[0]))
        shown = [f"{path}: {there!r} there, {here!r} asked" for path, (there, here) in differing.items()]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f" ({name} has the same data and differs in {'; '.join(shown[:_SHOWN])}{more})"

    def _described(self) -> Description | None:
        """Read the settings of the folder; None if it is missing or has nothing but half-written files."""
        place = existing(self.folder)
        if not place.is_dir():
            raise UsageError(f"{place} is a file: name a folder as --root, or move the file away")
        if place != self.folder or all(map(is_temporary, place.iterdir())):
            return None
        described = read_settings(place)
        if described.key != self.key:
            raise ExpertError(f"{place} was made for {described.key}: rename it to that, or move it away")
        return described


def store_of(root: Path, task: Task, settings: ExpertSettings) -> Store:
    """The store of these settings below `root`, whether it exists or not."""
    return Store(root, task, settings, key_of(task, settings), parameter_shapes(task, settings))


def existing(path: Path) -> Path:
    """`path`, or the nearest parent of it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path

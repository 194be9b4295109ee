"""The folder of a store: `settings.json`, which says what is in it, and one file an expert."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import Task
from ld3m_plugin.environment import versions
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store.files import Header, expert_files, read_header
from ld3m_plugin.objectives.mtt.store.key import (
    FORMAT,
    Shapes,
    command,
    decisive,
    differences,
    key_of,
    parameter_shapes,
)
from ld3m_plugin.objectives.mtt.store.settings import ExpertSettings
from ld3m_plugin.storage import write_json

SETTINGS = "settings.json"
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

    def command(self, **other: int) -> str:
        """The command line that trains what is missing; `other` settings may take the place of those asked for."""
        return command(self.root, self.task, self.settings.model_copy(update=other))

    def headers(self, below: int | None = None) -> dict[int, Header]:
        """What is there by number, in order.

        Args:
            below: leave out higher numbers; default: all.

        Raises:
            ExpertError: the folder is somebody else's, or a file in it is damaged or of other settings.
        """
        if not self.folder.exists():
            return {}
        self._check_folder()
        found = {}
        for number, path in expert_files(self.folder).items():
            if below is not None and number >= below:
                continue
            header = read_header(path)
            if header.key != self.key or header.expert != number:
                raise ExpertError(
                    f"{path} is expert {header.expert} of {header.key}, not expert {number} of {self.key}: move it away"
                )
            self._check_shapes(path, header)
            found[number] = header
        return found

    def prepare(self, count: int, epochs: int, dtype: str) -> None:
        """Make the folder, or check that it is a store, and write down how much of it is wanted.

        Raises:
            ExpertError: the folder is somebody else's.
            UsageError: the experts that are there are of another dtype.
        """
        described: dict[str, Any] = {}
        if self.folder.exists():
            described = self._check_folder()
        if described.get("dtype", dtype) != dtype and expert_files(self.folder):
            raise UsageError(
                f"{self.folder} holds {described['dtype']} experts: give -S dtype={described['dtype']}, or another --root"
            )
        wanted = described.get("wanted", {})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(
            self.folder / SETTINGS,
            {
                "key": self.key,
                **decisive(self.task, self.settings),
                "dtype": dtype,
                "wanted": {
                    "count": max(count, wanted.get("count", 0)),
                    "epochs": max(epochs, wanted.get("epochs", 0)),
                },
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
            },
        )

    def nearest(self) -> str:
        """Which store below the root has nearly these settings, and in what it differs; empty if none is of this data."""
        facts = decisive(self.task, self.settings)
        found = []
        for folder in store_folders(self.root):
            there = read_settings(folder)
            if folder.name != self.key and there["data"] == facts["data"]:
                found.append((differences(there["settings"], facts["settings"]), folder.name))
        if not found:
            return ""
        differing, name = min(found, key=lambda pair: len(pair[0]))
        shown = [f"{path}: {there!r} there, {here!r} asked" for path, (there, here) in differing.items()]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f" ({name} is of the same data and differs in {'; '.join(shown[:_SHOWN])}{more})"

    def _check_folder(self) -> dict[str, Any]:
        if not self.folder.is_dir():
            raise ExpertError(f"{self.folder} is a file, and experts would be kept in a folder there: move it away")
        if not any(self.folder.iterdir()):
            return {}
        described = read_settings(self.folder)
        if described.get("key") != self.key:
            raise ExpertError(
                f"{self.folder} was made for {described.get('key')}: give the folder its own name back, or move it away"
            )
        return described

    def _check_shapes(self, path: Path, header: Header) -> None:
        if header.parameters != self.shapes:
            raise ExpertError(
                f"{path} has other parameters than network {self.settings.network!r} has now: the network has changed "
                f"since; train experts anew in another --root"
            )


def store_of(root: Path, task: Task, settings: ExpertSettings) -> Store:
    """The store of these settings below `root`, whether it is there or not."""
    return Store(root, task, settings, key_of(task, settings), parameter_shapes(task, settings))


def store_folders(root: Path) -> list[Path]:
    """The folders below `root` that are stores; others are nobody's business here."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if (path / SETTINGS).is_file() and _is_store(path))


def read_settings(folder: Path) -> dict[str, Any]:
    """What `settings.json` says.

    Raises:
        ExpertError: it is missing, damaged or not of a store.
    """
    try:
        described = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']}")
        _ = described["key"], described["data"], described["settings"], described["wanted"], described["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExpertError(
            f"{folder} is not a store of experts ({SETTINGS} is missing or damaged): choose another --root, or move it away"
        ) from error
    return dict(described)


def _is_store(folder: Path) -> bool:
    try:
        read_settings(folder)
    except ExpertError:
        return False
    return True

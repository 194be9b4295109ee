"""Experts of a store as the objective reads them, by number and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import sha256
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.expert_files import Header, file_name, read_row
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings
from ld3m_plugin.objectives.mtt.store.store_folder import Store, store_of


class StoredExperts:
    """Experts 0 to n - 1 of a store; each row is read on use, and compared with its digest the first time.

    Raises:
        ExpertError: by `parameters`: the expert or the epoch is not stored, or the file is damaged.
    """

    def __init__(self, store: Store, headers: dict[int, Header]) -> None:
        self.store = store
        self._headers = headers
        self._sound: set[tuple[int, int]] = set()  # experts and rows that were compared with their digests
        common = set.intersection(*(set(header.epochs) for header in headers.values()))
        self.epochs = tuple(sorted(common))

    def __len__(self) -> int:
        return len(self._headers)

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """Weights (P,) after `epoch` epochs, float32 on the CPU, in the order of `module.parameters()`."""
        if expert not in self._headers:
            raise ExpertError(f"{self.store.folder} was opened for experts 0 to {len(self) - 1}, not for {expert}")
        if epoch not in self.epochs:
            raise _ends_too_early(self.store, self._headers, epoch)
        header, path = self._headers[expert], self.store.folder / file_name(expert)
        row = header.epochs.index(epoch)
        first_time = (expert, row) not in self._sound
        values = read_row(path, row, header.digests[row] if first_time else None)
        self._sound.add((expert, row))
        return values

    def digest(self, epochs: Iterable[int]) -> str:
        """SHA-256 of the digests of these epochs' rows; no weights are read."""
        rows = [[header.digests[header.epochs.index(epoch)] for epoch in epochs] for header in self._headers.values()]
        return sha256(rows)


def open_experts(root: Path, task: Task, settings: ExpertSettings, *, last_epoch: int | None = None) -> StoredExperts:
    """Open experts 0 to `settings.count` - 1 of a store; further files are ignored, so that results repeat.

    Args:
        last_epoch: the last epoch that must be stored; default: `settings.epochs`. More epochs may be stored.

    Raises:
        ExpertError: experts or epochs are missing, and the message names the command that trains them; or a file is damaged.
    """
    store = store_of(root, task, settings)
    headers = store.headers(below=settings.count)
    last = settings.epochs if last_epoch is None else last_epoch
    short = [header for header in headers.values() if header.epochs[-1] < last]
    if len(headers) < settings.count and not any(header.imported for header in short):
        have = f"{store.folder} has {len(headers)} of {settings.count} experts: ask for fewer, or make the others with"
        if not headers:
            have = f"no experts of these settings are in {store.root}{store.nearest()}; make them with"
        raise ExpertError(f"{have}: {store.command(headers, last)}")
    if short:
        raise _ends_too_early(store, headers, last)
    return StoredExperts(store, headers)


def _ends_too_early(store: Store, headers: dict[int, Header], wanted: int) -> ExpertError:
    """Name the expert that ends first; training it further is no advice where it was imported."""
    short = [header for header in headers.values() if wanted not in header.epochs]
    first = min(short, key=lambda header: header.epochs[-1])
    advice = "as imported experts cannot be trained further"
    if not any(header.imported for header in short):
        advice = f"or train longer with: {store.command(headers, wanted)}"
    return ExpertError(
        f"{store.folder}: expert {first.expert} stores epochs {first.epochs[0]} to {first.epochs[-1]}, not {wanted} "
        f"({len(short)} of {len(headers)} experts end too early): ask for fewer epochs, {advice}"
    )

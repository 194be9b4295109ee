"""What an objective reads: experts by number and epoch."""

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
    """Experts of a store, each row read when it is asked for.

    Raises:
        ExpertError: on `parameters`: an expert or an epoch that is not stored, or a damaged file.
    """

    def __init__(self, store: Store, headers: dict[int, Header]) -> None:
        self.store = store
        self._headers = headers
        common = set.intersection(*(set(header.epochs) for header in headers.values()))
        self.epochs = tuple(sorted(common))

    def __len__(self) -> int:
        return len(self._headers)

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """Weights after `epoch` epochs: float32 (P,), in the order of `module.parameters()`, on the CPU."""
        if expert not in self._headers:
            raise ExpertError(f"{self.store.folder} was opened for experts 0 to {len(self) - 1}: there is no {expert}")
        if epoch not in self.epochs:
            raise ExpertError(
                f"{self.store.folder} stores epochs {self.epochs[0]} to {self.epochs[-1]}, and {epoch} is asked for: "
                f"{_longer(self.store, self._headers, epoch)}"
            )
        path = self.store.folder / file_name(expert)
        return read_row(path, self._headers[expert].epochs.index(epoch))

    def digest(self, epochs: Iterable[int]) -> str:
        """SHA-256 of what `parameters` reads of these epochs, out of the headers: no weights are read."""
        rows = [[header.digests[header.epochs.index(epoch)] for epoch in epochs] for header in self._headers.values()]
        return sha256(rows)


def open_experts(root: Path, task: Task, settings: ExpertSettings, *, last_epoch: int | None = None) -> StoredExperts:
    """The experts 0 to `settings.count` − 1 of a store; files beyond are left alone, so that a result repeats.

    Args:
        last_epoch: the last epoch that must be there; default: `settings.epochs`. Stores with more epochs serve as well.

    Raises:
        ExpertError: experts or epochs are missing, with the command that makes them; or a file is damaged.
    """
    store = store_of(root, task, settings)
    headers = store.headers(below=settings.count)
    last = settings.epochs if last_epoch is None else last_epoch
    if not _imported_end_before(headers, last):  # no command would help there
        _check_count(store, headers, last)
    _check_epochs(store, headers, last)
    return StoredExperts(store, headers)


def _check_count(store: Store, headers: dict[int, Header], last_epoch: int) -> None:
    wanted = store.settings.count
    missing = [number for number in range(wanted) if number not in headers]
    if len(missing) == wanted:
        raise ExpertError(
            f"no experts of these settings are in {store.root}{store.nearest()}; make them with: "
            f"{store.command(headers, last_epoch)}"
        )
    if missing:
        raise ExpertError(
            f"{store.folder} has {wanted - len(missing)} of the {wanted} experts that are asked for: ask for fewer, or make "
            f"the others with: {store.command(headers, last_epoch)}"
        )


def _check_epochs(store: Store, headers: dict[int, Header], wanted: int) -> None:
    short = {number: header for number, header in headers.items() if header.epochs[-1] < wanted}
    if not short:
        return
    number, header = min(short.items(), key=lambda pair: pair[1].epochs[-1])
    raise ExpertError(
        f"{store.folder}: expert {number} stores epochs {header.epochs[0]} to {header.epochs[-1]}, and epoch {wanted} is asked "
        f"for ({len(short)} of {len(headers)} experts end too early): {_longer(store, headers, wanted)}"
    )


def _longer(store: Store, headers: dict[int, Header], last_epoch: int) -> str:
    """Advice where experts end before `last_epoch`."""
    if _imported_end_before(headers, last_epoch):
        return "ask for fewer epochs (imported experts cannot be trained further)"
    return f"ask for fewer epochs, or train longer with: {store.command(headers, last_epoch)}"


def _imported_end_before(headers: dict[int, Header], last_epoch: int) -> bool:
    return any(header.imported and header.epochs[-1] < last_epoch for header in headers.values())

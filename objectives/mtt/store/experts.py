"""What an objective reads: experts by number and epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import sha256
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.files import Header, file_name, read_row
from ld3m_plugin.objectives.mtt.store.folder import Store, store_of
from ld3m_plugin.objectives.mtt.store.settings import ExpertSettings


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
                f"{self.store.folder} stores epochs {self.epochs[0]} to {self.epochs[-1]}, and {epoch} is asked for: ask "
                f"for an earlier one, or train longer with: {self.store.command(epochs=epoch)}"
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
    _check_count(store, headers)
    chosen = {number: headers[number] for number in range(settings.count)}
    _check_epochs(store, chosen, settings.epochs if last_epoch is None else last_epoch)
    return StoredExperts(store, chosen)


def _check_count(store: Store, headers: dict[int, Header]) -> None:
    wanted = store.settings.count
    missing = [number for number in range(wanted) if number not in headers]
    if len(missing) == wanted:
        raise ExpertError(
            f"no experts of these settings are in {store.root}{store.nearest()}; make them with: {store.command()}"
        )
    if missing:
        raise ExpertError(
            f"{store.folder} has {wanted - len(missing)} of the {wanted} experts that are asked for: ask for fewer, or make "
            f"the others with: {store.command()}"
        )


def _check_epochs(store: Store, headers: dict[int, Header], wanted: int) -> None:
    short = {number: header for number, header in headers.items() if wanted not in header.epochs}
    if not short:
        return
    number, header = min(short.items(), key=lambda pair: pair[1].epochs[-1])
    advice = (
        "ask for fewer epochs (it was imported, so that it cannot be trained further)"
        if header.imported
        else f"ask for fewer epochs, or train longer with: {store.command(epochs=wanted)}"
    )
    raise ExpertError(
        f"{store.folder}: expert {number} stores epochs {header.epochs[0]} to {header.epochs[-1]}, and epoch {wanted} is asked "
        f"for ({len(short)} of {len(headers)} experts end too early): {advice}"
    )

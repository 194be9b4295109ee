"""What is in a root: a line for each store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.files import Header, expert_files, read_header
from ld3m_plugin.objectives.mtt.store.folder import read_settings, store_folders


@dataclass(frozen=True)
class Entry:
    """One store.

    Attributes:
        data: as it was named when the folder was last written to.
        count, wanted: experts that are there, and how many were asked for.
        epochs: the last one that is stored of every expert.
        wanted_epochs: the last one that was asked for; 0 where experts were imported alone.
        imported: how many of the experts were.
        loss: mean training loss in the last epoch, over the experts it is known of.
        bytes: on the disk.
        problems: what is wrong with files.
    """

    key: str
    data: str
    network: str
    count: int
    wanted: int
    epochs: int
    wanted_epochs: int
    imported: int
    dtype: str
    loss: float | None
    bytes: int
    problems: tuple[str, ...]

    @property
    def status(self) -> str:
        """`complete`, `partial`, or `damaged`."""
        if self.problems:
            return "damaged"
        return "complete" if self.count >= self.wanted and self.epochs >= self.wanted_epochs else "partial"


def list_experts(root: Path) -> list[Entry]:
    """The stores below `root`, by name.

    Raises:
        ExpertError: there is no such folder.
    """
    if not root.is_dir():
        raise ExpertError(f"{root} is not a folder: name the --root of experts, or make some with `ld3m experts train`")
    return [_entry(folder) for folder in store_folders(root)]


def _entry(folder: Path) -> Entry:
    described = read_settings(folder)
    problems: list[str] = []
    headers = list(_headers(folder, described["key"], problems))
    losses = [header.losses[-1] for header in headers if header.losses]
    wanted = described["wanted"]
    return Entry(
        key=folder.name,
        data=str(described["task"].get("name", "")),
        network=str(described["settings"].get("network", "")),
        count=len(headers),
        wanted=int(wanted.get("count", 0)),
        epochs=min((header.epochs[-1] for header in headers), default=0),
        wanted_epochs=int(wanted.get("epochs", 0)),
        imported=sum(header.imported for header in headers),
        dtype=str(described.get("dtype", "")),
        loss=sum(losses) / len(losses) if losses else None,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        problems=tuple(problems),
    )


def _headers(folder: Path, key: str, problems: list[str]) -> Iterator[Header]:
    for path in expert_files(folder).values():
        try:
            header = read_header(path)
        except ExpertError as error:
            problems.append(str(error))
            continue
        if header.key == key:
            yield header
        else:
            problems.append(f"{path} belongs to {header.key}: move it away")

"""What is in a root: a line for each store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.description import Description, read_settings, store_folders
from ld3m_plugin.objectives.mtt.store.expert_files import Header, check_digests, expert_files, read_header
from ld3m_plugin.objectives.mtt.store.store_identity import OtherVersionError
from ld3m_plugin.storage import is_temporary


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
        other_version: whether all that is wrong is that another version of this library wrote it.
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
    other_version: bool = False

    @property
    def status(self) -> str:
        """`complete`, `partial`, `damaged`, or `other version`."""
        if self.other_version:
            return "other version"
        if self.problems:
            return "damaged"
        return "complete" if self.count >= self.wanted and self.epochs >= self.wanted_epochs else "partial"


def list_experts(root: Path, *, verify: bool = False) -> list[Entry]:
    """The stores below `root`, by name.

    Args:
        verify: read all rows and compare them with their digests; what differs is a problem.

    Raises:
        ExpertError: there is no such folder.
    """
    if not root.is_dir():
        raise ExpertError(f"{root} is not a folder: name the --root of experts, or make some with `ld3m experts train`")
    return [_entry(folder, verify) for folder in store_folders(root)]


def _entry(folder: Path, verify: bool) -> Entry:
    problems: list[ExpertError] = []
    described = None
    try:
        described = read_settings(folder)
    except ExpertError as error:
        problems.append(error)
    headers: list[Header] = []
    if not any(isinstance(problem, OtherVersionError) for problem in problems):  # its files would only say the same
        headers += _headers(folder, described.key if described else folder.name, verify, problems)
    losses = [header.losses[-1] for header in headers if header.losses]
    return Entry(
        key=folder.name,
        **_described(described),
        count=len(headers),
        epochs=min((header.epochs[-1] for header in headers), default=0),
        imported=sum(header.imported for header in headers),
        loss=sum(losses) / len(losses) if losses else None,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not is_temporary(path)),
        problems=tuple(map(str, problems)),
        other_version=bool(problems) and all(isinstance(problem, OtherVersionError) for problem in problems),
    )


def _described(described: Description | None) -> dict[str, Any]:
    """What an entry has from `settings.json`."""
    if described is None:
        return {"data": "", "network": "", "wanted": 0, "wanted_epochs": 0, "dtype": ""}
    return {
        "data": described.task.name,
        "network": str(described.settings.get("network", "")),
        "wanted": described.wanted.count,
        "wanted_epochs": described.wanted.epochs,
        "dtype": described.dtype,
    }


def _headers(folder: Path, key: str, verify: bool, problems: list[ExpertError]) -> Iterator[Header]:
    for path in expert_files(folder).values():
        try:
            header = read_header(path)
            if verify:
                check_digests(path, header)
        except ExpertError as error:
            problems.append(error)
            continue
        if header.key == key:
            yield header
        else:
            problems.append(ExpertError(f"{path} belongs to {header.key}: move it away"))

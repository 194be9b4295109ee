"""The stores below a root, with the state of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.description import Description, read_settings, store_folders
from ld3m_plugin.objectives.mtt.store.expert_files import Header, check_digests, expert_files, read_header
from ld3m_plugin.objectives.mtt.store.store_format import OtherVersionError
from ld3m_plugin.storage import is_temporary


@dataclass(frozen=True)
class Entry:
    """One store.

    Attributes:
        data: as named when the folder was last written to.
        count, wanted: experts that exist, and how many were asked for.
        epochs: the last one that every expert stores.
        wanted_epochs: the last one that was asked for; 0 where experts were only imported.
        imported: how many of the experts were imported.
        loss: mean training loss in the last epoch, over the experts for which it is known.
        bytes: on the disk.
        problems: one line for each file that is wrong.
        other_version: whether the only problem is that another version of this library wrote it.
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
    """List the stores below `root` by name.

    Args:
        verify: read all rows and compare them with their digests; a difference is a problem.

    Raises:
        ExpertError: there is no such folder.
    """
    if not root.is_dir():
        raise ExpertError(f"{root} is not a folder: name the --root of experts, or make some with `ld3m experts train`")
    return [_entry(folder, verify) for folder in store_folders(root)]


def _entry(folder: Path, verify: bool) -> Entry:
    described: Description | None = None
    headers: list[Header] = []
    problems: list[ExpertError] = []
    try:
        described = read_settings(folder)
    except ExpertError as error:
        problems.append(error)
    if not any(isinstance(problem, OtherVersionError) for problem in problems):  # its files would repeat the problem
        for path in expert_files(folder).values():
            try:
                headers.append(_header(path, described.key if described else folder.name, verify))
            except ExpertError as error:
                problems.append(error)
    losses = [header.losses[-1] for header in headers if header.losses]
    return Entry(
        key=folder.name,
        data=described.task.name if described else "",
        network=str(described.settings.get("network", "")) if described else "",
        count=len(headers),
        wanted=described.wanted.count if described else 0,
        epochs=min((header.epochs[-1] for header in headers), default=0),
        wanted_epochs=described.wanted.epochs if described else 0,
        imported=sum(header.imported for header in headers),
        dtype=described.dtype if described else "",
        loss=sum(losses) / len(losses) if losses else None,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not is_temporary(path)),
        problems=tuple(map(str, problems)),
        other_version=bool(problems) and all(isinstance(problem, OtherVersionError) for problem in problems),
    )


def _header(path: Path, key: str, verify: bool) -> Header:
    header = read_header(path)
    if verify:
        check_digests(path, header)
    if header.key != key:
        raise ExpertError(f"{path} belongs to {header.key}: move it away")
    return header

"""Find pictures in folders, each file once, and count what is left out.

Hidden files, folders that systems leave behind, and folders that this library wrote are left out. Links are followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ld3m_plugin.data.picture_formats import endings
from ld3m_plugin.errors import DataError, one_line
from ld3m_plugin.storage import LOCK

#: Folders of operating systems and of network drives, in lower case: thumbnails, recycled files, parts of archives.
_SYSTEM_FOLDERS = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin"),
    *("__macosx", "__pycache__", "lost+found", "system volume information"),
}
#: What a folder of this library holds: one name of each group. A run that has just begun has its lock alone.
_OWN_FOLDERS = (
    ("run folder", (("config.yaml",), ("environment.json", "checkpoints", "distilled", "metrics.jsonl"))),
    ("run folder", ((LOCK,),)),
    ("distilled set", (("metadata.json",), ("images.safetensors",))),
    ("prior", (("model_index.json", "prior.json"),)),
    ("training of a prior", (("autoencoder.safetensors", "autoencoder.partial", "gan.safetensors", "gan.partial"),)),
    ("store of experts", (("settings.json",), ("expert-00000.safetensors",))),
)
#: Pictures that a comparison writes beside its runs.
_OWN_PICTURES = {"comparison.png"}
_ENDING = re.compile(r"\.[a-z0-9_+~-]{1,12}", re.IGNORECASE)
_KINDS_NAMED = 8


class LeftOut:
    """What is not read, counted once each.

    >>> left_out = LeftOut()
    >>> left_out.add("hidden", [Path(".a")]); left_out.add(".heic", [Path("b.heic"), Path("c.heic")])
    >>> str(left_out)
    '2 .heic, 1 hidden'
    """

    def __init__(self) -> None:
        self._paths: defaultdict[str, set[Path]] = defaultdict(set)

    def add(self, kind: str, paths: Iterable[Path]) -> None:
        """Count paths of one kind; those counted before do not count again."""
        if new := set(paths):
            self._paths[kind] |= new

    def merge(self, other: LeftOut) -> None:
        """Count what `other` counts as well."""
        for kind, paths in other._paths.items():
            self.add(kind, paths)

    def after(self, text: str) -> str:
        """`text`, with what is left out added to it if there is any."""
        return f"{text}; left out: {self}" if self._paths else text

    def __str__(self) -> str:
        counts = sorted(
            ((len(paths), kind) for kind, paths in self._paths.items()), key=lambda pair: (-pair[0], pair[1])
        )
        named = [
            f"{count} {kind}{'s' * (count > 1 and kind.endswith('folder'))}" for count, kind in counts[:_KINDS_NAMED]
        ]
        others = sum(count for count, _ in counts[_KINDS_NAMED:])
        return ", ".join([*named, *([f"{others} of other kinds"] if others else [])])


def check_folder(folder: Path, advice: str) -> None:
    """Check that a folder is there and can be looked at.

    Raises:
        DataError: it is missing, a file, in a folder that this user may not enter, or its name is too long for the disk.
    """
    try:
        problem = None if stat.S_ISDIR(folder.stat().st_mode) else "is a file, not a folder"
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a null character
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is not None:
        raise DataError(f"{one_line(str(folder), 1000)} {problem}: {advice}")


def expanded(path: Path) -> Path:
    """`path` with the home folder in place of `~`; the home of an unknown user stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def list_images(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Image files in a folder and its subfolders, sorted by path.

    Links to files and folders are followed. A file or folder that several paths reach counts once: by the path without a
    link, else by the first one. A link to a folder around it leads nowhere new.

    Args:
        left_out: counts what is not listed.

    Raises:
        DataError: a folder cannot be read.
    """
    return sorted(real_images(folder, left_out).values())


def real_images(folder: Path, left_out: LeftOut | None = None) -> dict[Path, Path]:
    """As `list_images`: path without links -> the path by which the file is reached, in no order."""
    return _Walk(folder, LeftOut() if left_out is None else left_out).found


def subfolders(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """The folders in a folder that can hold pictures, sorted; files beside them count as left out.

    Raises:
        DataError: the folder cannot be read.
    """
    left_out = LeftOut() if left_out is None else left_out
    found = []
    for entry in _entries(folder):
        path = folder / entry.name
        if (reason := _why_not(entry)) is not None:
            left_out.add(reason, [path])
        elif not _is_folder(entry):
            left_out.add("outside class folders", [path])
        elif entry.is_symlink() and _real(folder).is_relative_to(_real(path)):
            left_out.add("linked twice", [path])
        else:
            found.append(path)
    return found


def has_loose_images(folder: Path) -> bool:
    """Whether image files lie in the folder itself."""
    return any(not _is_folder(entry) and _why_not(entry) is None for entry in _entries(folder))


class _Walk:
    """One walk through a folder: `found` has the path of each real file."""

    def __init__(self, folder: Path, left_out: LeftOut) -> None:
        self.found: dict[Path, Path] = {}
        self._left_out = left_out
        self._entered: set[Path] = set()
        self._links: list[Path] = []
        self._walk(folder)
        while self._links:  # after what lies here itself, whose names decide on the split
            self._follow(self._links.pop(0))

    def _follow(self, link: Path) -> None:
        real = _real(link)
        if real in self.found or any(entered.is_relative_to(real) for entered in self._entered):
            self._left_out.add("linked twice", [link])
        elif link.is_dir():
            self._walk(link)
        else:
            self.found[real] = link

    def _walk(self, folder: Path) -> None:
        waiting = [(folder, _real(folder))]
        while waiting:
            here, real = waiting.pop()
            if real in self._entered:
                continue
            self._entered.add(real)
            for entry in _entries(here):
                path = here / entry.name
                if (reason := _why_not(entry)) is not None:
                    self._left_out.add(reason, [path])
                elif entry.is_symlink():
                    self._links.append(path)
                elif entry.is_dir():
                    waiting.append((path, real / entry.name))
                else:
                    self.found.setdefault(real / entry.name, path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read folder {folder}: {error.strerror}; make it readable, or move it away") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """As `entry.is_dir()`, which raises for a link to itself."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """The kind of what is left out; None for a folder, and for a file with the ending of a picture."""
    if entry.name.startswith("."):
        return "hidden"
    if not _is_folder(entry):
        ending = _ending(entry)
        if ending in endings():
            return None
        return ending if _ENDING.fullmatch(ending) else "without a known ending"
    if entry.name.lower() in _SYSTEM_FOLDERS:
        return entry.name
    return _own_kind(Path(entry.path))


def _ending(entry: os.DirEntry[str]) -> str:
    return Path(entry.name).suffix.lower()


def _own_kind(folder: Path, deeper: int = 2) -> str | None:
    """The kind of a folder that this library wrote, or of one with nothing but such folders in it, as `runs/`."""
    for kind, groups in _OWN_FOLDERS:
        if all(any((folder / name).exists() for name in group) for group in groups):
            return kind
    kinds = [_own_kind(inside, deeper - 1) for inside in _folders_without_pictures(folder)] if deeper else []
    if not any(kinds) or any(path.name not in _OWN_PICTURES for path in list_images(folder)):
        return None
    return min(filter(None, kinds))


def _folders_without_pictures(folder: Path) -> list[Path]:
    """The folders in `folder`; none if a picture lies beside them, as in most folders, of which the rest is not looked at."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _OWN_PICTURES or entry.is_symlink():
                continue
            if entry.is_dir():
                found.append(Path(entry.path))
            elif _ending(entry) in endings():
                return []
    return sorted(found)


def _real(path: Path) -> Path:
    """The path without links; `Path.resolve` raises for a link to itself."""
    return Path(os.path.realpath(path))

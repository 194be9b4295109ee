"""Files and folders that are complete or not there at all, also after a power failure.

What is written is on the disk (`fsync`) before it takes its place. Measured on an SSD, that adds 1 to 10 ms to a file or a small
folder.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.errors import UsageError
from ld3m_plugin.storage.held_signals import signals_held
from ld3m_plugin.storage.regular_files import naming

if TYPE_CHECKING:
    from torch import Tensor

_PARTIAL = ".partial"
_SAFETENSORS_OWN = re.compile(r"\.tmp\w{6}")
_LEFT_AFTER = 3600.0  # seconds
_MANY = 100  # files
#: Numbers of errors of a place where this user can never write, unlike a disk that is full.
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)
#: A file system that cannot sync says so.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends without an error."""
    temporary = target.with_name(f".{target.name}{_PARTIAL}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _sync_tree(temporary)
        with signals_held():
            _exchange(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _exchange(temporary: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old{_PARTIAL}")
    shutil.rmtree(old, ignore_errors=True)
    with suppress(FileNotFoundError):
        target.rename(old)  # deleting it takes longer, and a kill in between would leave neither
    temporary.rename(target)
    _sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Replace the file `path` by `temporary`, a file in the same folder, once that is on the disk."""
    _sync_file(temporary)
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_tree(folder: Path) -> None:
    paths = list(folder.rglob("*"))
    if len(paths) > _MANY and hasattr(os, "sync"):
        os.sync()  # the whole machine's, in one go: a file at a time would take minutes for the pictures of ImageNet
        return
    for path in paths:
        if path.is_file():
            _sync_file(path)
    for path in (*(path for path in paths if path.is_dir()), folder):
        _sync_folder(path)


def _sync_file(path: Path) -> None:
    # Windows syncs only what is open for writing; elsewhere a file may be read-only.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows opens no folders, and some file systems sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions of the user's other new files (the library makes it private).

    Raises:
        OSError: it cannot be written, with the number of the cause where the library tells it.
    """
    from safetensors.torch import save_file  # late: it imports torch, and settings are read without it

    # Clones: safetensors rejects tensors that share storage.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with naming(path):
        save_file(plain, path, metadata)
    mask = os.umask(0o077)  # the only way to read the mask is to set it
    os.umask(mask)
    with suppress(PermissionError):  # a file system without modes
        path.chmod(0o666 & ~mask)


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; the file takes the place of `path` in one move when the block ends well, or nothing does.

    Several processes may write it: the last one wins.
    """
    temporary = own_temporary(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    finally:
        with suppress(OSError):  # the disk may be the problem
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the file by `text` in one move; see `complete_file`."""
    with naming(path), complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Replace the file by indented JSON in one move; see `write_text`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def own_temporary(path: Path) -> Path:
    """A file name beside `path` that no other process uses, on this machine or on another that shares the disk."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")


def is_temporary(path: Path) -> bool:
    """Whether a file is incomplete: still being written, or left by a killed process.

    Such files have names of this library, or those that safetensors uses until it moves a file to its place.
    """
    name = path.name
    return (name.startswith(".") and name.endswith(_PARTIAL)) or _SAFETENSORS_OWN.fullmatch(name) is not None


def check_writable(folder: Path, advice: str) -> None:
    """Check that files can be made in `folder`, or in the nearest folder above it that exists, and leave no trace.

    Raises:
        UsageError: they cannot; the line names that folder and ends with the advice.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UsageError(f"{folder} cannot be written ({error.strerror}): {advice}") from error


def remove_leftovers(folder: Path, after: float = _LEFT_AFTER) -> None:
    """Delete incomplete files of killed processes.

    Args:
        after: seconds that a file must not have changed; 0 only where no other process writes.
    """
    for path in filter(is_temporary, folder.iterdir()):
        with suppress(OSError):  # another process deleted it first, or the user may not
            if time.time() - path.stat().st_mtime >= after:
                path.unlink()

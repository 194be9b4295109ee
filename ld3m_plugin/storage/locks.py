"""Locks that end with the process that holds them, whatever ends it.

The kernel keeps the lock (`flock`), not the file: a file that a killed process left behind locks nothing. On a network disk the
lock holds between machines where the file system passes it on (NFS since Linux 2.6.12); where it does not, or has no locks at
all, work goes on without.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ld3m_plugin.errors import UsageError
from ld3m_plugin.storage.complete import UNWRITABLE

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: The lock file of a folder.
LOCK = ".ld3m.lock"

_HOLDER = re.compile(r"process \d+ on [\w.-]+")
_BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_FAR = 2**30  # Windows hides locked bytes from readers: lock one behind the text
_TRIES = 100
#: Lock files that this process holds -> the thread that does.
_held: dict[Path, int] = {}


class InUseError(UsageError):
    """Another process works in a folder."""


@contextmanager
def locked(path: Path, what: Path, advice: str) -> Iterator[None]:
    """Hold the lock file `path`, and remove it at the end with the folders above it that this made and that are empty.

    A thread may take again what it holds. Never waits.

    Args:
        what: what the lock protects, for the error.
        advice: what to type instead, for the error.

    Raises:
        InUseError: another process, or another thread of this one, holds it.
        UsageError: the file cannot be written.
    """
    key, me = path.absolute(), threading.get_ident()
    if _held.get(key) == me:
        yield
        return
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    descriptor = None
    try:
        descriptor = _take(path, what, advice)
        _held[key] = me
        yield
    finally:
        if descriptor is not None:
            _held.pop(key, None)
            with suppress(OSError):  # Windows removes no open file
                path.unlink()  # still locked: nobody can take it meanwhile
            os.close(descriptor)
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _take(path: Path, what: Path, advice: str) -> int:
    """Open and lock the file at `path`; return its descriptor."""
    problem: OSError | None = None
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            problem = error
            if error.errno == errno.ENOENT:  # another process may have removed the folder in between
                continue
            break
        try:
            if not _lock(descriptor):
                found = _HOLDER.match(os.read(descriptor, 200).decode(errors="replace"))
                holder = found[0] if found else "another process"
                raise InUseError(f"{what} is in use by {holder}: wait until it ends, or {advice}")
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it before it was locked here
    why = problem.strerror if problem else "other processes lock it again and again"
    raise UsageError(f"{what} cannot be written ({why}): {advice}") from problem


def _lock(descriptor: int) -> bool:
    """Lock an open file without waiting; return False if another holds it, and True where there are no locks at all."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False

"""A folder of the user's cache that keeps what torch.compile builds, for later runs.

Python modules, pickles and shared libraries in it are executed. So it belongs to the user alone, and every file is known by its
SHA-256 before anything is loaded: a library that was cut off would end the process with SIGBUS. A process that compiles holds the
folder's lock, and others wait: what has no digest then was left by one that was killed, and is removed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.storage import InUseError, locked, read_json, write_json

_PLACE = "TORCHINDUCTOR_CACHE_DIR"
_DIGESTS = "digests.json"
_LOCK = "compiling.lock"
_OTHER_LOCKS = "locks"  # torch's own
_WAIT = 0.2  # seconds
_ADVICE = "set XDG_CACHE_HOME to a folder that can be written, or use compile=none"


def cache_folder() -> Path:
    """The folder for this torch, number of threads and processor, below $XDG_CACHE_HOME or ~/.cache.

    Code is made for all three, so that none of them finds what another left.

    Raises:
        UsageError: there is neither.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise UsageError(f"compile=blocks: there is no home folder to keep what is compiled: {_ADVICE}") from error
    machine = hashlib.sha256(f"{platform.machine()} {_processor()}".encode()).hexdigest()[:8]
    return base / "ld3m" / "compiled" / f"torch-{torch.__version__}-threads-{torch.get_num_threads()}-{machine}"


def _processor() -> str:
    """What the processor can do; libraries are compiled for exactly that."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return torch.backends.cpu.get_cpu_capability()


class CompileCache:
    """The files in `folder`, and those that this process has found to be whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[tuple[int, int, int], str]] = {}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let torch.compile read and write here, and nowhere else; waits while another process or thread does.

        Raises:
            ArtefactError: a file is damaged; the message says what to delete.
            UsageError: the folder cannot be written, or belongs to another user.
        """
        with self._turn():
            self._check()
            before = os.environ.get(_PLACE)
            os.environ[_PLACE] = str(self.folder)
            try:
                yield
            finally:
                os.environ.pop(_PLACE, None)
                if before is not None:
                    os.environ[_PLACE] = before
            write_json(self.folder / _DIGESTS, {name: self._digest(name) for name in self._names()})

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(locked(self.folder / _LOCK, self.folder, _ADVICE))
                    break
                except InUseError:
                    time.sleep(_WAIT)
            self._check_owner()
            yield

    def _check_owner(self) -> None:
        """Whoever can write here can run code in this process."""
        if hasattr(os, "getuid") and self.folder.stat().st_uid != os.getuid():
            raise UsageError(
                f"{self.folder} belongs to another user, and what is compiled there is executed: {_ADVICE}"
            )
        self.folder.chmod(0o700)

    def _check(self) -> None:
        path = self.folder / _DIGESTS
        known = read_json(path, self._damaged) if path.exists() else {}
        if not isinstance(known, dict):
            raise self._damaged(f"{path} is damaged")
        for name in self._names():
            if name not in known:
                (self.folder / name).unlink()
            elif self._digest(name) != known[name]:
                raise self._damaged(f"{self.folder / name} is damaged: it differs from what was compiled")

    def _damaged(self, what: str) -> ArtefactError:
        return ArtefactError(f"{what}: delete {self.folder}, then it is compiled anew")

    def _names(self) -> list[str]:
        """Files in the folder, by their paths there, without locks and digests."""
        found = (path.relative_to(self.folder) for path in sorted(self.folder.rglob("*")) if not path.is_dir())
        own = (_DIGESTS, _LOCK)
        return [name.as_posix() for name in found if name.parts[0] != _OTHER_LOCKS and str(name) not in own]

    def _digest(self, name: str) -> str:
        """SHA-256 of a file, read once for as long as it stays the same file."""
        path = self.folder / name
        found = path.stat()
        key = (found.st_ino, found.st_size, found.st_mtime_ns)
        if name not in self._whole or self._whole[name][0] != key:
            self._whole[name] = key, hashlib.sha256(path.read_bytes()).hexdigest()
        return self._whole[name][1]

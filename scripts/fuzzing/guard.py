"""An audit hook that stops whatever data must not cause: running code, starting programs, sockets, writing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: A module that only hostile inputs name; `damage` never writes it to a place where Python would find it.
CANARY = "fuzz_canary"

_STARTS = {
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "pty.spawn"),
    *(
        "subprocess.Popen",
        "socket.connect",
        "socket.bind",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendto",
    ),
    *("urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect", "code.__new__", "marshal.loads"),
    *("pickle.find_class", "webbrowser.open", "sys.addaudithook", "os.kill", "signal.pthread_kill"),
}
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "shutil.rmtree",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.truncate",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Modules of the standard library that make code of their own text, and libraries that do so where they are used first.
_MAKES_CODE = ("dataclasses", "collections", "functools", "typing", "inspect", "traceback", "linecache", "enum", "ast")
_LIBRARIES = (
    "torch",
    "pydantic",
    "diffusers",
    "transformers",
    "numpy",
    "kornia",
    "torchvision",
    "click",
    "typer",
    "rich",
)


class CaughtError(BaseException):
    """Data caused what it must not. No `except Exception` keeps it back."""


class Guard:
    """The audit hook of this process; it acts only inside `watching`."""

    def __init__(self) -> None:
        self._work: str | None = None
        self.caught: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self, work: Path) -> Iterator[None]:
        """Watch the block; files may be written below `work` alone."""
        self.caught, self._work = [], str(work.resolve())
        try:
            yield
        finally:
            self._work = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._work is None:
            return
        problem = self._problem(event, arguments)
        if problem is not None:
            self.caught.append(problem)
            raise CaughtError(problem)

    def _problem(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event in _STARTS and not (event in ("marshal.loads", "code.__new__") and _is_importing()):
            return f"{event} {arguments[:2]!r:.200}"
        if event == "import" and str(arguments[0]).partition(".")[0] in (CANARY, "antigravity", "this"):
            return f"import of {arguments[0]}"
        if event in ("exec", "compile") and not _is_importing() and not _makes_code():
            return f"{event} {arguments[0]!r:.200}"
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            return self._outside("open for writing", arguments[0])
        if event in ("os.remove", "os.rmdir") and arguments[-1] != -1:
            return None  # a name below a folder that `shutil.rmtree` opened; its own event has the path
        if event in _CHANGES:
            return self._outside(event, arguments[0])
        return None

    def _outside(self, what: str, path: Any) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        place = str(Path(os.fsdecode(path)).absolute().parent.resolve())
        inside = place == self._work or place.startswith(f"{self._work}/") or os.fsdecode(path) == os.devnull
        return None if inside else f"{what} of {os.fsdecode(path)!r}"


def _is_importing() -> bool:
    """Whether an import is under way: its modules are those of installed packages (others are the canary)."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _makes_code() -> bool:
    """Whether the code that runs or compiles text is a library's own, at the innermost Python frame."""
    name = str(sys._getframe(3).f_globals.get("__name__", "")).partition(".")[0]
    return name in _MAKES_CODE or name in _LIBRARIES

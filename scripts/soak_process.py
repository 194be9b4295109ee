"""An `ld3m` command in a forked process that is ended by SIGKILL at a chosen moment: at a time, or at a write.

A fork of a process that has imported everything starts at once. The write is found by an audit hook in that process, and the
signal comes before the write, or inside it: a limit on the size of files (RLIMIT_FSIZE) makes the kernel stop after some
bytes, whatever library writes. Nothing is cleaned up after SIGKILL, so what lies in the folder is what a kill leaves.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Self

#: Kinds of moments: everything that a run writes, and the time between two writes.
KINDS = ("lock", "settings", "computing", "metrics", "checkpoint", "best", "final set", "results")
_MARK = "soak: "
_PATHS = {"open": 0, "os.mkdir": 0, "os.chmod": 0, "os.remove": 0, "os.rmdir": 0, "shutil.rmtree": 0, "os.rename": 1}
_CREATING = {"open", "os.mkdir"}  # a write of bytes follows
_LONGEST = 300.0  # seconds of one process, whatever it does


@dataclass(frozen=True)
class Moment:
    """When a process is killed.

    Attributes:
        kind: one of `KINDS`.
        nth: of the events of that kind, from 0; for a line of metrics, of the checkpoints before it.
        within: bytes of the next write that still reach the disk; None: the signal comes before the event.
        delay: of `computing`, seconds after the first step, or after the start of a process that goes on.
    """

    kind: str
    nth: int = 0
    within: int | None = None
    delay: float = 0.0

    def earlier(self) -> Self:
        """A moment that comes for certain, where this one did not come before the process ended."""
        return replace(self, nth=self.nth // 2, within=None if self.kind != "metrics" else 0, delay=self.delay / 2)


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is negative for a signal, `killed_in` the kind of the moment, `events` by kind."""

    code: int
    output: str
    killed_in: str | None
    events: dict[str, int]
    seconds_after_first_step: float


def run_process(words: list[str], home: Path, moment: Moment | None = None) -> Ended:
    """Run `ld3m` with `words` in a fork, in the folder `home`, whose sub-folder `run` is the run."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(words, home, moment, writer)
    os.close(writer)
    os.set_blocking(reader, False)
    try:
        return _watch(pid, reader, home / "run", moment)
    finally:
        os.close(reader)


def steps_recorded(run: Path) -> int:
    """Number of complete lines in the metrics of a run."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _watch(pid: int, reader: int, run: Path, moment: Moment | None) -> Ended:
    started, first_step, said = time.monotonic(), None, b""
    timed = moment.delay if moment is not None and moment.kind == "computing" else None
    goes_on = steps_recorded(run) > 0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        said += _read(reader)
        if done:
            break
        now = time.monotonic()
        if first_step is None and (goes_on or steps_recorded(run)):
            first_step = now
        if now - started > _LONGEST:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Ended(1, f"no end after {_LONGEST:.0f} s", None, {}, 0.0)
        if timed is not None and first_step is not None and now - first_step >= timed:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    *lines, mark = said.decode(errors="replace").split(_MARK) if _MARK.encode() in said else [said.decode(), "{}"]
    told = json.loads(mark)
    killed_in = told.get("killed", "computing") if code == -signal.SIGKILL else None
    after = time.monotonic() - (first_step or started)
    return Ended(code, "".join(lines).strip(), killed_in, told.get("events", {}), after)


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 2**16)
    except BlockingIOError:
        return b""


# In the forked process ------------------------------------------------------------------------------------------------


def _child(words: list[str], home: Path, moment: Moment | None, writer: int) -> NoReturn:
    code, hook = 70, _Hook(home, moment)
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.chdir(home)
        sys.argv = ["ld3m", *words]
        sys.addaudithook(hook)
        code = _command()
        sys.stdout.flush()
        sys.stderr.flush()
        _tell({"events": hook.events})
    finally:  # also where nobody reads any more: this process must not return into the work of its parent
        os._exit(code)


def _command() -> int:
    """Run the `ld3m` command of `sys.argv`; return its exit code."""
    from ld3m_plugin import cli

    try:
        cli.main()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def _tell(what: dict[str, Any]) -> None:
    os.write(2, f"{_MARK}{json.dumps(what)}".encode())


class _Hook:
    """Counts events that write below `home`, by kind, and ends the process at `moment`."""

    def __init__(self, home: Path, moment: Moment | None) -> None:
        self.home, self.moment, self.events = str(home), moment, Counter[str]()
        self._removed = "settings"
        self._checkpoints = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _PATHS or (event == "open" and not _is_writing(arguments[2])):
            return
        path = os.fsdecode(arguments[_PATHS[event]]) if not isinstance(arguments[0], int) else ""
        if Path(path).is_absolute():
            kind = _kind(os.path.relpath(path, self.home)) if path.startswith(self.home + os.sep) else None
        else:  # `rmtree` removes by names relative to a descriptor
            kind = self._removed if event in ("os.remove", "os.rmdir") else None
        if kind is None:
            return
        if event == "shutil.rmtree":
            self._removed = kind
        is_checkpoint = event == "os.rename" and Path(path).name.startswith("step-")
        if self.moment is not None:
            self._act(self.moment, kind, event, is_checkpoint)
        self.events[kind] += 1
        self._checkpoints += is_checkpoint

    def _act(self, moment: Moment, kind: str, event: str, is_checkpoint: bool) -> None:
        if moment.kind == "metrics" and moment.within is not None:
            # No event announces a line: the file stays open. It is what is written next after a checkpoint.
            if is_checkpoint and self._checkpoints == moment.nth:
                metrics = Path(self.home, "run", "metrics.jsonl")
                _kill_after(metrics.stat().st_size + moment.within, moment.kind)
        elif kind == moment.kind and self.events[kind] >= moment.nth:
            if moment.within is None:
                _kill(kind)
            elif event in _CREATING:
                _kill_after(moment.within, kind)


def _is_writing(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _kind(path: str) -> str:
    """The kind of write of a path relative to the home: `run/checkpoints/...`."""
    _, _, inside = path.partition(os.sep)
    first, _, rest = inside.partition(os.sep)
    if first.endswith(".lock"):
        return "lock"
    if "checkpoints" in first:
        return "checkpoint"
    if "distilled" in first:
        return "results" if rest and not first.startswith(".") else "final set"
    return next((kind for kind in ("metrics", "best") if first.strip(".").startswith(kind)), "settings")


def _kill(kind: str) -> None:
    _tell({"killed": kind})
    os.kill(os.getpid(), signal.SIGKILL)


_handlers: list[object] = []  # the C library keeps the address alone


def _kill_after(size: int, kind: str) -> None:
    """End this process by SIGKILL in the write that makes a file larger than `size` bytes.

    SIGXFSZ comes in the write itself, in whatever library that is; a handler of Python's would run long after it.
    """
    if _handlers:
        return
    libc = ctypes.CDLL(None)
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: _kill(kind))
    _handlers.append(handler)
    libc.signal(signal.SIGXFSZ, handler)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

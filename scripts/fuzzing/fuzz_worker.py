"""Read one hostile input at a time in a process of its own, and say how it ended."""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing import damage
from fuzzing.guard import CaughtError, Guard
from fuzzing.hostile_plans import Plan

ROOT = Path(__file__).parents[2]
_PACKAGES = tuple(str(ROOT / name) + os.sep for name in ("ld3m_plugin", "generators", "objectives"))
MOST_MEMORY = 2 * 2**30  # bytes that reading one input may add
_ADDRESSES = 4 * 2**30


@dataclass(frozen=True)
class Outcome:
    """How an input ended: "value", "refused", or a fault ("traceback", "message", "execution", "memory", "hang", "harness")."""

    end: str
    text: str = ""
    frame: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether it is neither a value nor a refusal of one line."""
        return self.end not in ("value", "refused")


class Reader:
    """Makes each kind's valid input once, and reads damaged copies of it under the guard."""

    def __init__(self, place: Path) -> None:
        from fuzzing.kinds import KINDS

        self._kinds, self._place, self._guard = KINDS, place, Guard()
        self._made: set[str] = set()

    def read(self, kind: str, plan: Plan) -> Outcome:
        """Damage a copy of the kind's valid input as the plan says, and read it.

        Raises:
            Exception: the valid input cannot be read.
        """
        from ld3m_plugin.errors import HostError

        template, work, known = self._place / kind, self._place / "work", self._kinds[kind]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind not in self._made:
                shutil.rmtree(template, ignore_errors=True)
                template.mkdir()
                known.make(template)
                _copy(template, work)
                known.read(work / "input")  # what is imported at the first use is imported here
                self._made.add(kind)
            _copy(template, work)
            damage.apply(work / "input", plan, known.leave)
            os.chdir("/")
            before = _start_of_memory()
            try:
                with self._guard.watching(self._place):
                    known.read(work / "input")
                outcome = Outcome("value")
            except HostError as error:
                outcome = _refusal(error)
            except CaughtError as error:
                outcome = Outcome("execution", str(error), _frame(error))
            except (Exception, SystemExit) as error:
                outcome = Outcome("traceback", f"{type(error).__name__}: {error}", _frame(error))
        if self._guard.caught and outcome.end != "execution":
            outcome = Outcome("execution", self._guard.caught[0], outcome.frame)
        taken = _most_memory() - before
        if taken > MOST_MEMORY and not outcome.is_fault:
            outcome = Outcome("memory", f"{taken / 2**30:.1f} GiB; {outcome.text}", outcome.frame)
        return outcome


def serve(connection: Any, stacks: str) -> None:
    """Read the inputs that come through the connection, until it closes.

    Args:
        stacks: file for the stacks of all threads, written on SIGUSR1: the parent asks before it ends a process that hangs.
    """
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place, Path(stacks).open("w") as file:
        faulthandler.register(signal.SIGUSR1, file)
        reader = Reader(Path(place))
        _limit_addresses()
        connection.send("ready")
        with suppress(EOFError):
            while True:
                kind, plan = connection.recv()
                try:
                    outcome = reader.read(kind, plan)
                except Exception:  # a mistake of these scripts, or a valid input that is not read
                    outcome = Outcome("harness", traceback.format_exc()[-600:])
                connection.send(outcome)


def _copy(template: Path, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(template, work)


def _refusal(error: Exception) -> Outcome:
    from fuzzing.in_process import RAW

    text = str(error)
    if "\n" in text or "\t" in text or RAW.search(text):
        return Outcome("message", f"{type(error).__name__} with raw characters: {text!r:.300}", _frame(error))
    if not text or len(text) > 2000:
        return Outcome("message", f"{type(error).__name__} of {len(text)} characters: {text:.200}", _frame(error))
    return Outcome("refused", f"{type(error).__name__}: {text}")


def _frame(error: BaseException) -> str:
    """The innermost frame of the package in an error's traceback."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_PACKAGES)]
    return "" if not own else f"{os.path.relpath(own[-1].filename, ROOT)}:{own[-1].lineno} {own[-1].name}"


def _limit_addresses() -> None:
    """What asks for more memory gets `MemoryError`, so that a fault does not take the machine's."""
    with suppress(OSError, ValueError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESSES, resource.RLIM_INFINITY))


def _start_of_memory() -> int:
    """Forget the peak so far, where the system can; returns the bytes that are taken now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _most_memory()


def _most_memory() -> int:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

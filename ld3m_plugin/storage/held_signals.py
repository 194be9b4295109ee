"""Signals that end a program wait until a save is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: What Ctrl-C, job schedulers and a terminal that closes send; Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class HeldSignals:
    """The signals of one `signals_held` block."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._waiting: list[int] = []
        self._open = False

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Let signals act inside this block, until one ends it: those after that one wait, so that the end is not cut short."""
        self._open = True
        try:
            self._deliver()
            yield
        finally:
            self._open = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._open:
            self._waiting.append(number)
            return
        self._open = False  # first of all: from here on the next one waits
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            signal.raise_signal(number)  # ends the process, unless it is ignored
            signal.signal(number, self._receive)
        self._open = True

    def _deliver(self) -> None:
        waiting, self._waiting = dict.fromkeys(self._waiting), []
        for number in waiting:
            signal.raise_signal(number)

    def _hold(self) -> None:
        for number in ENDING:
            before = signal.getsignal(number)
            # None: set by another language. An ignored one stays ignored, as `nohup` wants it.
            if before is not None and before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._receive)

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def signals_held() -> Iterator[HeldSignals]:
    """Hold Ctrl-C, SIGTERM and SIGHUP until the block ends; then they act as they would have.

    After a block that one of them has ended, the others are dropped: the program is on its way out. Blocks may be nested. Python
    handles signals in the main thread alone, so in another one this does nothing.
    """
    held = HeldSignals()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    held._hold()
    ended = False
    try:
        yield held
    except (KeyboardInterrupt, SystemExit):
        ended = True
        raise
    finally:
        held._restore()
        if not ended:
            held._deliver()

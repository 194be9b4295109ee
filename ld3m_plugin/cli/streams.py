"""Standard output and error of the program: nobody needs to read them for a run to go on."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Unread(io.FileIO):
    """A descriptor that becomes /dev/null at the first write that fails.

    Args:
        every: pass over every error, as for progress; else only over a reader that has gone away (`ld3m plugins | head`).
    """

    def __init__(self, descriptor: int, *, every: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._every = every

    def write(self, content: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError as error:
            # Not tried again, also not by Python at its end, which would make another exit code of it.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self._every or error.errno == errno.EPIPE:
                return len(content)
            raise


@contextmanager
def patient_streams() -> Iterator[None]:
    """Let the process go on when the reader of its output or of its messages goes away; other faults of the output are raised."""
    before = sys.stdout, sys.stderr
    sys.stdout = _patient(sys.stdout, sys.__stdout__, every=False)
    sys.stderr = _patient(sys.stderr, sys.__stderr__, every=True)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _patient(stream: TextIO, of_the_process: TextIO | None, *, every: bool) -> TextIO:
    """`stream` on a descriptor that is `_Unread`; the stream itself where it is another than the process's (in tests)."""
    if stream is None or stream is not of_the_process or os.name == "nt":  # consoles of Windows are no files
        return stream
    try:
        stream.flush()
        raw = _Unread(stream.fileno(), every=every)
    except (OSError, ValueError):  # closed
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=every or stream.isatty()
    )

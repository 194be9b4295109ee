"""Ctrl-C before the work begins: there is nothing to save, and libraries that are being imported do not bear an exception."""

from __future__ import annotations

import os
import signal
from typing import Any

from ld3m_plugin.errors import ExitCode


def _leave(*_: Any) -> None:
    os._exit(int(ExitCode.INTERRUPTED))  # an exception in an import of torch ends in a traceback, or aborts the process


def leave_at_once() -> None:
    """Let Ctrl-C end the process without a word until `work_begins`, unless it is ignored or handled otherwise."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def work_begins() -> None:
    """From now on, Ctrl-C is a `KeyboardInterrupt`, after which results are saved."""
    if signal.getsignal(signal.SIGINT) is _leave:
        import torch  # noqa: F401 (while it cannot be interrupted)

        signal.signal(signal.SIGINT, signal.default_int_handler)

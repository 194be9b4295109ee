"""The process of one row: what `ld3m compare row FOLDER ID` runs.

It locks the row, counts its start, makes it or goes on with it, and writes what became of it.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from ld3m_plugin.comparison.made_rows import MAKERS
from ld3m_plugin.comparison.manifest import Manifest, ManifestRow
from ld3m_plugin.comparison.row_identity import code_version
from ld3m_plugin.errors import LESS_MEMORY, ExitCode, HostError, PluginFailedError, of_the_machine, one_line
from ld3m_plugin.runs.reporter import Reporter
from ld3m_plugin.storage import InUseError, locked

#: The exit code of a process that found another one at work on its row (sysexits.h: EX_TEMPFAIL).
BUSY = 75
_PATIENCE = 5.0  # seconds


def end_with_input() -> None:
    """From now on, end as SIGTERM does when standard input ends: the program that started this one is dead, or wants it."""

    descriptor = sys.stdin.fileno()

    def wait() -> None:
        # Not through `sys.stdin`, whose lock this thread would hold when Python ends, which is then a fatal error.
        while os.read(descriptor, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def run_row(folder: Path, row_id: str, reporter: Reporter) -> int:
    """Make one row of the comparison in `folder`; returns the exit code.

    Raises:
        HostError: there is no such comparison or row.
    """
    manifest = Manifest.read(folder)
    row = manifest.row(row_id)
    torch.set_num_threads(row.threads)
    for name in (
        "SIGTERM",
        "SIGUSR2",
    ):  # the second is what SLURM sends before a time limit, also to processes of a process
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        with _locked(manifest, row):
            return make_row(manifest, row, reporter)
    except InUseError as error:
        reporter.say(f"error: {error}")
        return BUSY


@contextmanager
def _locked(manifest: Manifest, row: ManifestRow) -> Iterator[None]:
    """Hold the lock of a row. `status` takes it for an instant, and a process that ends for its last checkpoint: wait for these.

    Raises:
        InUseError: another process keeps it.
    """
    with ExitStack() as held:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                held.enter_context(locked(manifest.lock(row), manifest.run_folder(row), "choose another --out"))
                break
            except InUseError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield


def make_row(manifest: Manifest, row: ManifestRow, reporter: Reporter) -> int:
    """Make or finish a row whose lock is held, and write its state; returns the exit code."""
    before = manifest.state(row)
    if before.progress == "finished":
        return int(ExitCode.DONE)
    # With its code from the start: a row that is stopped goes on with no other.
    manifest.update(row, progress="running", starts=before.starts + 1, line="", exit_code=0, code=code_version())
    try:
        facts = MAKERS[row.kind](row.settings, manifest.run_folder(row), reporter)
    except KeyboardInterrupt:
        manifest.update(row, progress="stopped", peak_mib=_peak_mib(before.peak_mib))
        return int(ExitCode.INTERRUPTED)
    except Exception as error:  # whatever stops one row stops no other: it is told in the table
        told = of_the_machine(error, LESS_MEMORY) or error
        known = isinstance(told, HostError)
        if not known or isinstance(told, PluginFailedError):
            traceback.print_exc()  # into the log of the row
        line = str(told) if known else f"{type(told).__name__}: {one_line(str(told))}; see {manifest.log(row)}"
        code = int(told.exit_code) if isinstance(told, HostError) else int(ExitCode.FAILED)
        reporter.say(f"error: {line}")
        manifest.update(row, progress="failed", line=line, exit_code=code, peak_mib=_peak_mib(before.peak_mib))
        return code
    manifest.update(row, progress="finished", peak_mib=_peak_mib(before.peak_mib), **facts)
    return int(ExitCode.DONE)


def _peak_mib(before: float) -> float:
    """The largest memory of this process and of those before it: on the GPU where there is one, else the resident set."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(max(before, torch.cuda.max_memory_allocated() / 2**20), 1)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20), 1)

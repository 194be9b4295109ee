"""Processes on this machine, a few at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from ld3m_plugin.launchers.launcher import Job, JobState, Launcher
from ld3m_plugin.options import Options

_GRACE = 120.0  # seconds for a checkpoint


class LocalOptions(Options):
    """Options of the launcher `local`."""

    jobs: int = Field(1, ge=1, description="processes at a time")


class LocalLauncher(Launcher):
    """Starts processes in the order of the jobs, and the next one when one has ended.

    A process has a session of its own, so that Ctrl-C reaches this program alone, which then ends it in order. Its standard input
    is a pipe from here: however this program ends, the pipe ends with it, and so does the process.
    """

    Options = LocalOptions
    row_arguments = ("--until-end-of-input",)

    def __init__(self, options: LocalOptions | None = None, **keywords: object) -> None:
        super().__init__(options, **keywords)
        self._waiting: list[Job] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: list[str] = []

    def start(self, jobs: Sequence[Job], folder: Path) -> None:
        self._waiting = list(jobs)

    def poll(self) -> Mapping[str, JobState]:
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                self._forget(name)
        while self._waiting and len(self._running) < self.options.jobs:
            job = self._waiting.pop(0)
            self._running[job.id] = _start(job)
        states: dict[str, JobState] = dict.fromkeys((job.id for job in self._waiting), "waiting")
        return states | dict.fromkeys(self._running, "running") | dict.fromkeys(self._ended, "ended")

    def stop(self) -> None:
        """End all processes: SIGTERM first, SIGKILL for one that has not ended after two minutes, or when called again."""
        self._waiting = []
        try:
            for process in self._running.values():
                process.terminate()
            until = time.monotonic() + _GRACE
            for name, process in list(self._running.items()):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until - time.monotonic()))
                    self._forget(name)
        finally:  # also on a second Ctrl-C
            for name, process in list(self._running.items()):
                process.kill()
                process.wait()
                self._forget(name)

    def _forget(self, name: str) -> None:
        process = self._running.pop(name)
        if process.stdin is not None:
            process.stdin.close()
        self._ended.append(name)


def _start(job: Job) -> subprocess.Popen[bytes]:
    with job.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 (a command of this program)
            job.command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **job.environment},
            start_new_session=hasattr(signal, "SIGHUP"),
        )

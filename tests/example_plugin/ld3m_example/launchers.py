"""Rows of a comparison as processes of this machine that give way to all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ld3m_plugin.contracts import Job
from ld3m_plugin.launchers.local import LocalLauncher


class NiceLauncher(LocalLauncher):
    """Starts each row with `nice`."""

    def start(self, jobs: Sequence[Job], folder: Path) -> None:
        super().start([replace(job, command=("nice", *job.command)) for job in jobs], folder)

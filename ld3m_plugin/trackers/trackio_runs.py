"""Trackio: a database on this machine (`TRACKIO_DIR`), shown with `trackio show`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ld3m_plugin.storage import needed
from ld3m_plugin.trackers.shown_records import ProjectRuns, run_name


class Trackio(ProjectRuns):
    """A run of Trackio: numbers, settings and pictures of the set."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._library = needed("trackio", "trackio", "the tracker trackio")
        with redirect_stdout(sys.stderr):  # standard output is for results
            self._run = self._library.init(
                project=self.options.project,
                name=run_name(folder),
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def finish(self) -> None:
        with redirect_stdout(sys.stderr):
            self._library.finish()  # a run alone would be finished again when Python ends

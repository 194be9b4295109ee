"""Trackio: a database on this machine (`TRACKIO_DIR`), shown with `trackio show`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.storage import needed
from ld3m_plugin.trackers.shown_records import ProjectOptions, one_picture, run_name, scalars

if TYPE_CHECKING:
    from torch import Tensor


class Trackio(Tracker):
    """A run of Trackio: numbers, settings and pictures of the set."""

    Options = ProjectOptions

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._trackio: Any = needed("trackio", "trackio", "the tracker trackio")
        with redirect_stdout(sys.stderr):  # standard output is for results
            self._run = self._trackio.init(
                project=self.options.project,
                name=run_name(folder),
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, record: Mapping[str, Any]) -> None:
        self._run.log(scalars(record), step=record["step"])

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self._run.log({"set": self._trackio.Image(one_picture(pictures, labels, class_names))}, step=step)

    def finish(self) -> None:
        with redirect_stdout(sys.stderr):
            self._trackio.finish()  # a run alone would be finished again when Python ends

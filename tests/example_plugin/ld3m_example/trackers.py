"""A tracker with options of its own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from ld3m_plugin.contracts import Options, Tracker


class CsvOptions(Options):
    """`--set 'trackers=[{name: example-csv, options: {file: losses.csv}}]'`."""

    file: str = Field("losses.csv", pattern=r"^[\w.-]+$", description="name of the file in the run folder")


class CsvTracker(Tracker):
    """A row for each step: its number and its loss."""

    Options = CsvOptions

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._path = folder / self.options.file
        self._path.write_text("step,loss\n", encoding="utf-8")

    def log(self, record: Mapping[str, Any]) -> None:
        if "loss" in record:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow([record["step"], record["loss"]])

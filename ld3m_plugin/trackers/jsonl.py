"""`metrics.jsonl`: one JSON object a line, readable while the run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import Tracker

METRICS = "metrics.jsonl"


class JsonLines(Tracker):
    """Appends each record to `metrics.jsonl` in the run folder."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._file = (folder / METRICS).open("a", encoding="utf-8")

    def log(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(dict(record), default=_plain)
        self._file.write(line + "\n")
        self._file.flush()

    def finish(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def _plain(value: Any) -> float | str:
    try:
        return float(value)  # numbers of torch and numpy are numbers too
    except (TypeError, ValueError, RuntimeError):
        return str(value)

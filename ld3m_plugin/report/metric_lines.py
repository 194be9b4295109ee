"""What `metrics.jsonl` of a run says: numbers of each step, and accuracies of the evaluations between steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from ld3m_plugin.report.plain_text import number, short
from ld3m_plugin.storage import read_json_lines
from ld3m_plugin.trackers.jsonl import METRICS

_MOST_LINES = 1_000_000
_MOST_SERIES = 12
Points = list[tuple[float, float]]


@dataclass
class Metrics:
    """The records of a run.

    Attributes:
        numbers: of each step by name, `loss` first, as points (step, value).
        accuracies: by architecture, points (step, mean accuracy in percent) of the distilled images.
    """

    numbers: dict[str, Points] = field(default_factory=dict)
    accuracies: dict[str, Points] = field(default_factory=dict)

    def starting(self, prefix: str) -> dict[str, Points]:
        """The series whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): points for name, points in self.numbers.items() if name.startswith(prefix)}


def read_metrics(folder: Path) -> Metrics:
    """Read the records of the run in `folder`; what is no record of this library is left out, and so is a missing file."""
    found = Metrics()
    for _, record in islice(read_json_lines(folder / METRICS), _MOST_LINES):
        step = number(record.get("step"))
        if step is None:
            continue
        if "loss" in record:
            for name, value in record.items():
                _add(found.numbers, name, step, number(value), skip=("step", "seconds"))
        elif record.get("images") == "distilled" and isinstance(record.get("accuracies"), list):
            values = [number(value) for value in record["accuracies"]]
            known = [value for value in values if value is not None]
            _add(found.accuracies, record.get("network"), step, fmean(known) if known else None)
    return found


def _add(series: dict[str, Points], name: Any, step: float, value: float | None, skip: tuple[str, ...] = ()) -> None:
    name = short(name, 60)
    if value is not None and name not in skip and (name in series or len(series) < _MOST_SERIES):
        series.setdefault(name, []).append((step, value))

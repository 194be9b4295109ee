"""How long the rows of a comparison that are left may take, from those that have ended."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ld3m_plugin.comparison.manifest import Manifest


class TimeToGo:
    """Estimates the time to go from the rows that ended: of the same generator and objective where there is one."""

    def __init__(self, manifest: Manifest) -> None:
        self._rows = {row.id: row for row in manifest.rows}
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def update(self, states: Mapping[str, str]) -> None:
        """Note which rows began or ended since the last call, by the states that a launcher tells."""
        now = time.monotonic()
        for row_id, state in states.items():
            if state == "running":
                self._began.setdefault(row_id, now)
            elif state == "ended" and row_id in self._began:
                self._took.setdefault(row_id, now - self._began[row_id])

    def seconds(self, states: Mapping[str, str]) -> float | None:
        """Seconds to go; None before the first row has ended."""
        if not self._took:
            return None
        by_pair: dict[tuple[str, str], list[float]] = {}
        for row_id, seconds in self._took.items():
            by_pair.setdefault(self._pair(row_id), []).append(seconds)
        every = [seconds for taken in by_pair.values() for seconds in taken]
        total, now, running = 0.0, time.monotonic(), 0
        for row_id, state in states.items():
            taken = by_pair.get(self._pair(row_id), every)
            if state == "waiting":
                total += sum(taken) / len(taken)
            elif state == "running":
                running += 1
                total += max(0.0, sum(taken) / len(taken) - (now - self._began.get(row_id, now)))
        return total / max(1, running)

    def _pair(self, row_id: str) -> tuple[str, str]:
        row = self._rows[row_id]
        return row.generator, row.objective

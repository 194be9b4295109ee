"""What a long training tells while it goes on."""

from __future__ import annotations

from collections.abc import Mapping


class TrainingReporter:
    """What a training tells while it goes on; the base class keeps silent."""

    def phase(self, name: str, total: int, done: int = 0) -> None:
        """A phase of `total` steps begins, `done` of them made before a stop. It comes before the first `step`."""

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """`done` steps of the phase have been made; `values` are its numbers by name, such as the loss."""

    def say(self, text: str) -> None:
        """One line for the user, such as a measured quality."""

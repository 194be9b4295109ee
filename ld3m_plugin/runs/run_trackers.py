"""The trackers of a run: one that raises is turned off with a warning, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ld3m_plugin.backends import get_tracker
from ld3m_plugin.config import RunConfig, TrackerConfig
from ld3m_plugin.contracts import Tracker
from ld3m_plugin.registry import reason


class RunTrackers:
    """`metrics.jsonl` and the trackers of the configuration, started and finished as a context.

    Args:
        warn: receives one line for each tracker that is turned off.
    """

    def __init__(self, config: RunConfig, folder: Path, warn: Callable[[str], None]) -> None:
        self._config, self._folder, self._warn = config, folder, warn
        self._running: dict[str, Tracker] = {}

    def __enter__(self) -> Self:
        chosen = {"jsonl": TrackerConfig(name="jsonl"), **{part.name: part for part in self._config.trackers}}
        settings = self._config.model_dump(mode="json")
        for part in chosen.values():
            with self._safely(part.name):
                tracker = get_tracker(part.name, **part.options)
                tracker.start(self._folder, settings)
                self._running[part.name] = tracker
        return self

    def log(self, record: Mapping[str, Any]) -> None:
        """Give one record to every tracker that runs."""
        for name, tracker in list(self._running.items()):
            with self._safely(name):
                tracker.log(record)

    def images_due(self, step: int) -> bool:
        """Whether a tracker wants pictures of the set after this step."""
        return bool(self._want_images(step))

    def log_images(self, step: int, pictures: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
        """Give pictures to the trackers that want them after this step; see `Tracker.log_images`."""
        for name, tracker in self._want_images(step).items():
            with self._safely(name):
                tracker.log_images(step, pictures, labels, class_names)

    def _want_images(self, step: int) -> dict[str, Tracker]:
        found = {}
        for name, tracker in list(self._running.items()):
            with self._safely(name):
                every = tracker.images_every() if isinstance(tracker, Tracker) else 0  # older ones have no base class
                if every and step % every == 0:
                    found[name] = tracker
        return found

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._running.items()):
            with self._safely(name):
                tracker.finish()

    @contextmanager
    def _safely(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker is a stranger's code; losing it must not lose the run
            self._running.pop(name, None)
            self._warn(f"tracker {name!r} failed and is turned off: {reason(error)}")

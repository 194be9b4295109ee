"""The rules of trackers."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.testing.tiny_task import rules

#: What a run gives: numbers of a step, and the accuracies of a network.
_RECORDS: tuple[dict[str, Any], ...] = (
    {"step": 1, "loss": 2.5, "mean_loss": 0.5, "gradient_norm/pixels": 0.25, "seconds": 0.01},
    {"step": 2, "loss": 2.0, "mean_loss": 0.4, "gradient_norm/pixels": 0.20, "seconds": 0.01},
    {"step": 2, "images": "distilled", "network": "ConvNet", "accuracies": (61.5, 60.0), "protocol": "quick"},
)
_CONFIG: dict[str, Any] = {
    "steps": 3,
    "seed": 0,
    "generator": {"name": "pixel", "options": {}},
    "objective": {"name": "dm"},
}


def check_tracker(factory: Callable[[], Tracker], config: Mapping[str, Any] | None = None) -> None:
    """Check a tracker against the contract.

    It takes records of steps and of evaluations and changes none; it may be finished without a record; what it kept is still
    there when the run goes on, which starts a new tracker in the same folder; files lie in the run folder alone, as far as the
    current folder shows; the global random stream stays untouched.

    Args:
        factory: makes a new tracker. One that talks to a server should get a local stand-in.
        config: the configuration it is started with; default: a small one.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    given = dict(config or _CONFIG)
    with rules("a tracker"), tempfile.TemporaryDirectory() as place:
        folder, here = Path(place), set(Path.cwd().iterdir())
        (folder / "run").mkdir()
        _follow(factory(), folder / "run", given, _RECORDS)
        kept = _files(folder)
        _follow(factory(), folder / "run", given, _RECORDS[2:])  # as `--resume` does
        for name, content in kept.items():
            still = _files(folder).get(name, b"")
            assert content in still, (
                f"{name} has lost what was in it when the run went on: add to files, do not write anew"
            )
        (folder / "empty").mkdir()
        _follow(factory(), folder / "empty", given, ())
        beside = {path.name for path in folder.iterdir()} - {"run", "empty"}
        assert not beside and set(Path.cwd().iterdir()) == here, "a tracker must write into the run folder alone"


def _follow(tracker: Tracker, folder: Path, config: dict[str, Any], records: tuple[dict[str, Any], ...]) -> None:
    assert isinstance(tracker, Tracker), (
        f"a {type(tracker).__name__} is not an ld3m_plugin.Tracker: derive it from there"
    )
    before = copy.deepcopy((config, records))
    tracker.start(folder, config)
    for record in records:
        tracker.log(record)
    tracker.finish()
    assert (config, records) == before, "a tracker must change neither the configuration nor a record"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""The run folders of a comparison: what may lie there, and reading those that are finished."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ld3m_plugin.artefact.distilled_set import METADATA, DistilledSet
from ld3m_plugin.comparison.settings import difference, run_settings
from ld3m_plugin.config import RunConfig, read_yaml
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.options import build
from ld3m_plugin.trackers.jsonl import FILE_NAME as METRICS

NUMBERS, PICTURES, RANDOM_REAL_RECORD = "comparison.json", "comparison.png", "random-real.json"

#: What a comparison writes beside its run folders, partial files of a killed one included.
_FILES = {
    *(NUMBERS, PICTURES, RANDOM_REAL_RECORD),
    *(f".{NUMBERS}.partial", f".partial.{PICTURES}", f".{RANDOM_REAL_RECORD}.partial"),
}


@dataclass(frozen=True)
class ComparedRun:
    """One finished run of a comparison.

    Attributes:
        name: its column in the table.
        seconds: time of all its steps, without evaluations.
    """

    name: str
    folder: Path
    config: RunConfig
    distilled: DistilledSet
    evaluation: Evaluation
    seconds: float

    def record(self) -> dict[str, Any]:
        """The run as plain data, for JSON."""
        return {
            "folder": self.folder.name,
            "generator": self.config.generator.model_dump(mode="json"),
            "learning_rates": dict(self.config.optimizer.learning_rates),
            "seconds": {"distillation": round(self.seconds, 1), "evaluation": round(self.evaluation.seconds, 1)},
        }


def check_folder(folder: Path, names: Collection[str]) -> None:
    """Check that runs called `names` can be made in `folder`, which need not exist.

    Raises:
        UsageError: no names, a name that is no folder name, or a folder that holds anything but a comparison.
    """
    if not names:
        raise UsageError("there is nothing to compare: name at least one generator")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in _FILES:
            raise UsageError(f"{name!r} cannot name a run folder: use letters, digits, '-', '_' and '.'")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another --out")
    entries = sorted(folder.iterdir()) if folder.exists() else []
    for entry in entries:
        if not (_is_run(entry) or (entry.is_file() and entry.name in _FILES)):
            raise UsageError(f"{entry} does not belong to a comparison: choose another --out, or move it away")
    written = [entry for entry in entries if entry.name in (NUMBERS, PICTURES)]
    if written and not any((entry / "config.yaml").is_file() for entry in entries):
        raise UsageError(
            f"{written[0]} has no run folder beside it and would be overwritten: choose another --out, or move it away"
        )


def _is_run(path: Path) -> bool:
    """Whether the folder `path` holds a run, or is still empty because the run stopped before it wrote its settings."""
    return path.is_dir() and ((path / "config.yaml").is_file() or not any(path.iterdir()))


def check_same_settings(folder: Path, config: RunConfig) -> None:
    """Raise `UsageError` if there is a run in `folder` with settings that give other images or accuracies than `config`."""
    path = folder / "config.yaml"
    if not path.is_file():
        return
    saved = build(RunConfig, read_yaml(path), str(path))
    found = difference(run_settings(saved), run_settings(config))
    if found is not None:
        setting, old, new = found
        raise UsageError(
            f"the run in {folder} was made with {setting} = {old!r}, and now it is {new!r}: choose another --out, restore the "
            "setting, or delete that folder to make the run again"
        )


def read_run(name: str, folder: Path, config: RunConfig) -> ComparedRun | None:
    """Read the run in `folder`; None where it is not finished.

    Raises:
        ArtefactError: it is damaged.
    """
    path = folder / "distilled" / METADATA
    if not path.is_file():
        return None
    distilled = DistilledSet.load(folder / "distilled")
    results = distilled.metadata.get("results")
    if results is None:  # stopped in its evaluation
        return None
    try:
        step, evaluation = int(results["final"]["step"]), Evaluation.from_record(results["final"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"the results in {path} are damaged: delete {folder} to make the run again") from error
    if step != config.steps:
        return None
    return ComparedRun(name, folder, config, distilled, evaluation, _step_seconds(folder / METRICS))


def _step_seconds(path: Path) -> float:
    total = 0.0
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):  # an evaluation, or a line that is not ours
            record = json.loads(line)
            total += float(record["seconds"]) if "loss" in record else 0.0
    return total

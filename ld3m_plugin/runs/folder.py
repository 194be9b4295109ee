"""The run folder: the names of its files, and the records in them that are not checkpoints.

runs/NAME/config.yaml  metrics.jsonl  environment.json  checkpoints/step-000200/  distilled/
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from ld3m_plugin.config import RunConfig
from ld3m_plugin.errors import ArtefactError, HostError
from ld3m_plugin.options import build
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.storage import read_json, read_json_lines, write_text
from ld3m_plugin.trackers.jsonl import METRICS

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"
DISTILLED = "distilled"
BEST = "best_over_test_set_evaluations.json"


def free_folder(root: Path, config: RunConfig, generator: str | None = None) -> Path:
    """A folder below `root` named after the run that is empty or does not exist yet.

    Args:
        generator: stands in the name instead of the generator's.
    """
    data = config.data.name.replace(":", "-").replace("/", "-").strip("-")
    generator = generator or config.generator.name
    name = f"{data}-{generator}-{config.objective.name}-ipc{config.images_per_class}-seed{config.seed}"
    folder, number = root / name, 2
    while is_taken(folder):
        folder, number = root / f"{name}-{number}", number + 1
    return folder


def is_taken(folder: Path) -> bool:
    """Whether `folder` is a file, or has something in it."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def undo_create(folder: Path, is_new: bool) -> None:
    """Remove what a run wrote before its first step, and nothing else: the same command works once the mistake is mended."""
    for name in (CONFIG, ENVIRONMENT, METRICS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    if is_new and not any(folder.iterdir()):
        folder.rmdir()


def read_config(folder: Path) -> RunConfig:
    """The settings of the run in `folder`.

    Raises:
        ArtefactError: there is no run.
        UsageError: `config.yaml` is damaged, or has a setting that this version does not have.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ArtefactError(f"there is no run in {folder}: {CONFIG} is missing")
    return build(RunConfig, read_yaml(path), str(path))


def read_environment(folder: Path) -> dict[str, Any]:
    """Read `environment.json`; empty if it is missing or damaged, since a run goes on without this record for people."""
    with suppress(HostError):
        content = read_json(folder / ENVIRONMENT, HostError)
        return content if isinstance(content, dict) else {}
    return {}


def read_best(folder: Path, iteration: int) -> dict[str, Any] | None:
    """The best evaluation of a stopped run; None if it is of a step after `iteration`, which is evaluated again."""
    with suppress(HostError, KeyError, TypeError, ValueError):
        best = dict(read_json(folder / BEST, HostError))
        return best if best["step"] <= iteration and best["mean"] >= 0 else None
    return None


def forget_metrics_after(folder: Path, iteration: int, steps: int) -> None:
    """Drop records of steps after `iteration`, and of the evaluation at the end (`steps`): they are made again."""
    path, kept = folder / METRICS, []
    if not path.is_file():
        return
    for line, record in read_json_lines(path):
        with suppress(TypeError):  # not ours
            step = record.get("step", 0)
            if step <= iteration and not ("protocol" in record and step >= steps):
                kept.append(line)
    write_text(path, "".join(kept))

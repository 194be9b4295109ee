"""The run folder: the names of its files, and the records in them that are not checkpoints.

runs/NAME/config.yaml  metrics.jsonl  environment.json  checkpoints/step-000200/  distilled/

`config.yaml` is written last: without it, nothing was started. A process that works in a run folder holds its lock.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from ld3m_plugin.config import RunConfig, dump
from ld3m_plugin.errors import ArtefactError, HostError, MissingArtefactError
from ld3m_plugin.options import build
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.storage import (
    LOCK,
    InUseError,
    is_temporary,
    locked,
    read_json,
    read_json_lines,
    write_json,
    write_text,
)
from ld3m_plugin.trackers.jsonl import METRICS

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"
DISTILLED = "distilled"
BEST = "best_over_test_set_evaluations.json"
#: Images that the run started from.
START = "start.safetensors"
#: The same images as they started and as they are.
START_NOW = "start-now.png"
_NAMES = (CONFIG, ENVIRONMENT, CHECKPOINTS, DISTILLED, BEST, METRICS, START, START_NOW)
#: What `environment.json` of every version has.
_OURS = {"versions", "plugins"}


def run_name(config: RunConfig) -> str:
    """Name a run after its settings, for a folder."""
    data = config.data.name.replace(":", "-").replace("/", "-").strip("-")
    return f"{data}-{config.generator.name}-{config.objective.name}-ipc{config.images_per_class}-seed{config.seed}"


@contextmanager
def new_folder(root: Path, name: str) -> Iterator[Path]:
    """Claim a folder `root/name`, or with a number behind it, that is empty or does not exist yet.

    Nobody else gets it in this block.

    Raises:
        UsageError: `root` cannot be written.
    """
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        with ExitStack() as stack:
            if is_taken(folder) or not _enter_free(stack, folder):
                continue
            yield folder
            return


def _enter_free(stack: ExitStack, folder: Path) -> bool:
    """Claim the folder until the stack ends; return False where another process is in it, or was."""
    try:
        stack.enter_context(claimed(folder))
    except InUseError:
        return False
    return not is_taken(folder)


@contextmanager
def claimed(folder: Path, advice: str = "choose another --out") -> Iterator[None]:
    """Make the folder if it is missing, and lock it for this process; at the end it goes again if nothing is in it.

    Incomplete files that a killed run left are removed.

    Raises:
        InUseError: another process works in it; the line names that process, if it is known, and ends with the advice.
        UsageError: the folder cannot be made or written.
    """
    with locked(folder / LOCK, folder, advice):
        for path in filter(_is_partial, folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        yield


def is_taken(folder: Path) -> bool:
    """Whether `folder` is a file, or has something in it; what a run leaves that was killed before it started does not count."""
    if not folder.is_dir():
        return folder.exists()
    left = [path for path in folder.iterdir() if path.name != LOCK and not _is_partial(path)]
    return bool(left) and not (
        [path.name for path in left] == [ENVIRONMENT] and read_environment(folder).keys() >= _OURS
    )


def _is_partial(path: Path) -> bool:
    return is_temporary(path) and path.name.startswith(tuple(f".{name}." for name in _NAMES))


def write_start(folder: Path, config: RunConfig, environment: dict[str, Any]) -> None:
    """Write the records of a run that starts. A kill in between leaves a folder in which the same run can be started."""
    write_json(folder / ENVIRONMENT, environment)
    write_text(folder / CONFIG, dump(config))


def undo_create(folder: Path) -> None:
    """Remove what a run wrote before its first step, and nothing else: the same command works once the mistake is mended."""
    for name in (CONFIG, ENVIRONMENT, METRICS, START, START_NOW):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def read_config(folder: Path) -> RunConfig:
    """The settings of the run in `folder`.

    Raises:
        MissingArtefactError: there is no run.
        UsageError: `config.yaml` is damaged, or has a setting that this version does not have.
    """
    path = folder / CONFIG
    if not path.is_file():
        advice = ""
        if folder.is_dir() and not is_taken(folder):
            advice = " (one that was stopped before its first step is started again with the same command)"
        raise MissingArtefactError(f"there is no run in {folder}: {CONFIG} is missing{advice}")
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


def step_seconds(folder: Path) -> list[float]:
    """Seconds of each step of a run, from its metrics."""
    records = (record for _, record in read_json_lines(folder / METRICS))
    return [record["seconds"] for record in records if "loss" in record and isinstance(record.get("seconds"), float)]


def forget_metrics_after(folder: Path, iteration: int, steps: int) -> None:
    """Drop records of steps after `iteration`, and of the evaluation at the end (after `steps`): they are made again.

    Raises:
        ArtefactError: the records are no file, such as a pipe, whose writer would wait for a reader.
    """
    path, kept = folder / METRICS, []
    if not path.exists():
        return
    if not path.is_file():
        raise ArtefactError(f"{path} is not a file: remove it, then go on")
    for line, record in read_json_lines(path):
        with suppress(TypeError):  # not ours
            step = record.get("step", 0)
            if step <= iteration and not ("protocol" in record and step >= steps):
                kept.append(line)
    write_text(path, "".join(kept))

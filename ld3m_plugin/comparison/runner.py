"""Run a comparison: make every row that has no record yet, one after the other."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ld3m_plugin.comparison.comparison_table import NUMBERS, PICTURES, Comparison, write_comparison
from ld3m_plugin.comparison.rows import RandomRealRow, RunRow
from ld3m_plugin.comparison.settings import changed, check_comparable
from ld3m_plugin.config import RunConfig, completed
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import same_digest
from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.runs.folder import CONFIG, claimed, is_taken
from ld3m_plugin.runs.run import Reporter
from ld3m_plugin.storage import LOCK, is_temporary, remove_leftovers

_RANDOM_REAL = "random-real.json"
#: What a comparison writes beside its run folders.
_FILES = {NUMBERS, PICTURES, f".partial.{PICTURES}", _RANDOM_REAL, LOCK}


def compare(
    configs: Mapping[str, RunConfig],
    folder: Path,
    *,
    task: Task | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Run each configuration into `folder/NAME`, evaluate random real images, and put all accuracies into one table.

    Called again with the same configurations it goes on: finished rows are read, a stopped run is resumed.

    Args:
        configs: by name, in the order of the table; they may differ in generator and optimizer only. With
            `evaluation.random_real`, random real images have a row of the comparison; no run evaluates them.
        task: the data; default: what the configurations name.

    Raises:
        UsageError: configurations that differ in more, a run in `folder` with other settings, or anything else there.
        ArtefactError: a finished run is damaged, or its data, prior or experts have changed since.
        HostError: a run failed; finished rows stay, and the same call goes on.
    """
    reporter = reporter or Reporter()
    _check_folder(folder, configs)
    with claimed(folder):
        _check_folder(folder, configs)  # nobody else writes there any more
        remove_leftovers(folder, after=0)
        return _compare(configs, folder, task, reporter)


def _compare(configs: Mapping[str, RunConfig], folder: Path, task: Task | None, reporter: Reporter) -> Comparison:
    wanted = {name: completed(config) for name, config in configs.items()}
    check_comparable(wanted)
    shared = next(iter(wanted.values()))
    runs = [
        RunRow(name, folder / name, changed(config, "evaluation", random_real=False)) for name, config in wanted.items()
    ]
    for run in runs:
        run.check_settings()
    random_real = [RandomRealRow(folder / _RANDOM_REAL, shared)] if shared.evaluation.random_real else []
    rows: list[RunRow | RandomRealRow] = [*runs, *random_real]
    missing = [row for row in rows if row.finished is None]
    if missing or any(run.has_moved for run in runs):
        task = task or load_task(shared.data.name, **shared.data.options)
        for row in rows:
            if row not in missing[:1]:  # the first is made next, and checks itself
                row.check(task)
    for run in runs:
        if run.finished:
            reporter.say(f"{run.name} is finished: read from {run.folder}")
    made = [run.finished or run.make(task, reporter) for run in runs]
    real = [row.finished or row.make(task, reporter) for row in random_real]
    recorded = [(run.folder, run.evaluation) for run in made]
    _check_same_images([*recorded, *((folder / _RANDOM_REAL, evaluation) for evaluation in real)])
    return write_comparison(folder, made, real)


def _check_same_images(evaluations: Sequence[tuple[Path, Evaluation]]) -> None:
    """Raise `ArtefactError` if two evaluations, by where they are recorded, were made with other images."""
    (first, base), *others = evaluations
    for path, evaluation in others:
        if not same_digest(base.data_digest, evaluation.data_digest):
            raise ArtefactError(
                f"{first} and {path} were made with other classes or images: delete the one that is to be made again"
            )


def _check_folder(folder: Path, names: Collection[str]) -> None:
    """Raise `UsageError` without names, for a name that is no folder name, and if `folder` holds anything but a comparison."""
    if not names:
        raise UsageError("there is nothing to compare: name at least one generator")
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in _FILES:
            raise UsageError(f"{name!r} cannot name a run folder: use letters, digits, '-', '_' and '.'")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another --out")
    entries = sorted(folder.iterdir()) if folder.exists() else []
    runs = [entry for entry in entries if (entry / CONFIG).is_file()]
    for entry in entries:
        # Nothing is in a folder where a run stopped before it wrote its settings.
        is_ours = entry in runs or not is_taken(entry) if entry.is_dir() else _is_file_of_comparison(entry)
        if not is_ours:
            raise UsageError(f"{entry} does not belong to a comparison: choose another --out, or move it away")
        if not runs and entry.name in (NUMBERS, PICTURES):
            raise UsageError(
                f"{entry} has no run folder beside it and would be overwritten: choose another --out, or move it away"
            )


def _is_file_of_comparison(path: Path) -> bool:
    """Whether a comparison writes a file of that name, or left it incomplete when it was killed."""
    return path.name in _FILES or (is_temporary(path) and path.name.startswith(tuple(f".{name}." for name in _FILES)))

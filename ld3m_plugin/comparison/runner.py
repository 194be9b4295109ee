"""Run a comparison: make every row that has no record yet, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ld3m_plugin.comparison.finished_runs import RANDOM_REAL_RECORD, check_folder, check_same_settings
from ld3m_plugin.comparison.rows import RandomRealRow, RunRow
from ld3m_plugin.comparison.settings import changed, check_comparable
from ld3m_plugin.comparison.table import Comparison, write_comparison
from ld3m_plugin.config import RunConfig, completed
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.runs.run import Reporter


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
    check_folder(folder, configs)
    wanted = {name: completed(config) for name, config in configs.items()}
    check_comparable(wanted)
    for name, config in wanted.items():
        check_same_settings(folder / name, config)
    shared = next(iter(wanted.values()))
    runs = [
        RunRow(name, folder / name, changed(config, "evaluation", random_real=False)) for name, config in wanted.items()
    ]
    random_real = RandomRealRow(folder / RANDOM_REAL_RECORD, shared, runs) if shared.evaluation.random_real else None
    rows: list[RunRow | RandomRealRow] = [*runs, *([random_real] if random_real else ())]
    missing = [row for row in rows if row.finished is None]
    if missing:
        task = task or load_task(shared.data.name, **shared.data.options)
        for row in rows:
            if row is not missing[0]:  # it is made next, and checks itself
                row.check(task)
    for run in runs:
        if run.finished:
            reporter.say(f"{run.name} is finished: read from {run.folder}")
    made = [run.finished or run.make(task, reporter) for run in runs]
    accuracies = (random_real.finished or random_real.make(task, reporter)) if random_real else None
    return write_comparison(folder, made, accuracies)

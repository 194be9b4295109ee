"""Run a comparison grid: plan its rows, write the manifest, let a launcher make what is left, and write the tables."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ld3m_plugin.comparison.exports import write_tables
from ld3m_plugin.comparison.grid import GridConfig
from ld3m_plugin.comparison.manifest import LAUNCHER, LOGS, MANIFEST, ROWS, STATES, Manifest, ManifestRow
from ld3m_plugin.comparison.points import points, without_rows
from ld3m_plugin.comparison.results import baseline, results, write_pictures
from ld3m_plugin.comparison.row_identity import Identities, code_version
from ld3m_plugin.comparison.seed_table import write_seeds
from ld3m_plugin.comparison.summary import Summary, summarise
from ld3m_plugin.comparison.time_to_go import TimeToGo
from ld3m_plugin.errors import HostError, UsageError, one_line
from ld3m_plugin.launchers.launcher import Job, Launcher
from ld3m_plugin.runs.folder import claimed
from ld3m_plugin.storage import LOCK, complete_folder

_log = logging.getLogger(__name__)
_POLL = 0.2  # seconds
_OURS = {MANIFEST, ROWS, STATES, LOGS, LAUNCHER}


class GridReporter:
    """Receives what a grid tells; the base class logs it."""

    def say(self, message: str) -> None:
        """Called with a line that is worth showing."""
        _log.info("%s", message)

    def warn(self, message: str) -> None:
        """Called with a problem that does not stop the comparison."""
        _log.warning("%s", message)

    def changed(self, manifest: Manifest, counts: Mapping[str, int], left_seconds: float | None) -> None:
        """Called when a row began or ended, with how many rows are how far, and an estimate of the time to go."""
        _log.info("rows: %s", ", ".join(f"{count} {state}" for state, count in counts.items()))


@dataclass(frozen=True)
class GridResult:
    """A comparison as far as it got.

    Attributes:
        summary: of the finished runs; None where there are none.
        failed: rows that are not finished, with their error.
        pictures: names of the lines of `comparison.png`.
    """

    manifest: Manifest
    summary: Summary | None
    failed: Mapping[str, str] = field(default_factory=dict)
    pictures: Sequence[str] = ()


def run_grid(
    grid: GridConfig,
    folder: Path,
    launcher: Launcher,
    *,
    reuse: Sequence[Path] = (),
    reporter: GridReporter | None = None,
) -> GridResult:
    """Make every row of a grid that has no result yet, each in a process of its own, seed by seed. The same call goes on
    where it stopped.

    Args:
        reuse: folders of other comparisons whose finished rows of the same identity are copied, whatever version made them.

    Raises:
        UsageError: a grid that cannot be compared; something else is in `folder`; rows of another version of the code.
        HostError: data that cannot be read, or a launcher that does not work. A row that fails stops no other.
    """
    reporter = reporter or GridReporter()
    _check_folder(folder)
    identities = Identities(grid)
    wanted = points(grid)
    rows = {row.id: row for row in map(identities.row, wanted)}
    for problem in without_rows(grid, wanted):
        reporter.warn(problem)
    for problem in dict.fromkeys(row.problem for row in rows.values() if row.problem):
        reporter.warn(f"some rows will fail: {problem}")  # now, and not only when their turn comes
    with claimed(folder):
        planned = [ManifestRow.of(row, grid.threads) for row in rows.values()]
        manifest = Manifest(folder, _where_they_lie(folder, planned), grid.model_dump(mode="json"))
        _forget_lost(manifest, reporter)
        taken = _take_over(manifest, reuse, reporter)
        _check_versions(manifest, reuse, taken)
        manifest.write()
        left = [row for row in manifest.rows if manifest.state(row).progress != "finished"]
        if len(left) < len(manifest.rows):
            reporter.say(f"{len(manifest.rows) - len(left)} of {len(manifest.rows)} rows are finished")
        if left:
            _launch(manifest, _seed_by_seed(left, grid.seeds), launcher, reporter)
        return write_results(manifest)


def _write_finished(manifest: Manifest, reporter: GridReporter) -> None:
    """Write the tables of what a comparison has finished that is stopped, and say so."""
    try:
        written = write_results(manifest)
    except Exception as error:  # a full disk, say: the command still ends as stopped
        reporter.say(f"no table of the finished rows: {one_line(str(error))}")
        return
    if written.summary is not None:
        made, table = len(manifest.rows) - len(written.failed), manifest.folder / "table.md"
        reporter.say(f"{made} of {len(manifest.rows)} rows are finished: {table}")


def _seed_by_seed(rows: Sequence[ManifestRow], seeds: Sequence[int]) -> list[ManifestRow]:
    """All rows of the first seed, then those of the next: differences are paired, so what ends early has whole seeds."""
    places = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
    return sorted(rows, key=lambda row: places.get(row.seed, 0))  # without seeds, all rows have that of config


def write_results(manifest: Manifest) -> GridResult:
    """Write tables and pictures of all finished rows."""
    states = [(row, manifest.state(row)) for row in manifest.rows]
    finished = [row for row, state in states if state.progress == "finished"]
    # A process that was killed wrote no error.
    failed = {
        row.label: state.line or f"stopped, its output is in {manifest.log(row)}"
        for row, state in states
        if state.progress != "finished"
    }
    if not finished:
        return GridResult(manifest, None, failed)
    found = results(manifest, finished)
    summary = summarise(found, baseline(manifest, found))
    write_tables(summary, manifest.folder)
    write_seeds(found, manifest.folder)
    return GridResult(manifest, summary, failed, write_pictures(manifest, finished))


def _launch(manifest: Manifest, left: Sequence[ManifestRow], launcher: Launcher, reporter: GridReporter) -> None:
    """Give the rows to the launcher and wait until all have ended."""
    for name in (ROWS, STATES, LOGS, LAUNCHER):
        (manifest.folder / name).mkdir(exist_ok=True)
    by_id = {row.id: row for row in left}
    launcher.start([_job(manifest, row, launcher) for row in left], manifest.folder / LAUNCHER)
    before: Mapping[str, str] = {}
    clock = TimeToGo(manifest)
    try:
        while True:
            states = launcher.poll()
            if states != before:
                clock.update(states)
                manifest.write()
                for row_id in {i for i, s in states.items() if s == "ended"} - {
                    i for i, s in before.items() if s == "ended"
                }:
                    reporter.say(_ended(manifest, by_id[row_id]))
                counts = {state: list(states.values()).count(state) for state in ("ended", "running", "waiting")}
                reporter.changed(manifest, counts, clock.seconds(states))
                before = states
            if all(state == "ended" for state in states.values()):
                return
            time.sleep(_POLL)
    except KeyboardInterrupt:
        reporter.say("stopping: rows that run save a checkpoint first; once more ends them at once")
        launcher.stop()  # raises again at a second Ctrl-C, which then waits for no table
        _write_finished(manifest, reporter)
        raise
    finally:
        launcher.stop()
        manifest.write()


def _job(manifest: Manifest, row: ManifestRow, launcher: Launcher) -> Job:
    arguments = ("compare", "row", *launcher.row_arguments, str(manifest.folder.absolute()), row.id)
    threads = {name: str(row.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = (sys.executable, "-m", "ld3m_plugin", *arguments)
    return Job(row.id, row.label, command, manifest.log(row), row.threads, threads)


def _ended(manifest: Manifest, row: ManifestRow) -> str:
    state = manifest.state(row)
    if state.progress == "failed":
        return f"{row.label}: failed: {state.line}"
    if state.progress != "finished":
        return f"{row.label}: stopped, its output is in {manifest.log(row)}"
    return f"{row.label}: finished"


def _where_they_lie(folder: Path, rows: Sequence[ManifestRow]) -> tuple[ManifestRow, ...]:
    """The rows, each with the label of the folder that it has: data that has moved gives it another label, but no other row."""
    entries = sorted(path.name for path in (folder / ROWS).glob("*-*") if not path.name.startswith("."))
    there = {name.rpartition("-")[2]: name for name in entries}
    return tuple(replace(row, label=there.get(row.id[:8], row.label)) for row in rows)


def _forget_lost(manifest: Manifest, reporter: GridReporter) -> None:
    """Leave finished rows to be made again whose result is gone or damaged."""
    for row in manifest.rows:
        lost = _lost(manifest, row) if manifest.state(row).progress == "finished" else None
        if lost is not None:
            reporter.say(f"{row.label}: is made again: {lost}")
            manifest.update(row, progress="left", code={})


def _lost(manifest: Manifest, row: ManifestRow) -> str | None:
    """Why the result of a finished row cannot be read, or None."""
    try:
        results(manifest, [row])
    except HostError as error:
        return str(error)
    return None


def _take_over(manifest: Manifest, reuse: Sequence[Path], reporter: GridReporter) -> set[str]:
    """Copy finished rows of other comparisons that have the identity of one here.

    Returns:
        The identities of all rows that the others have finished, whatever version made them.
    """
    found: set[str] = set()
    for folder in reuse:
        other = Manifest.read(folder)
        finished = [row for row in other.rows if other.state(row).progress == "finished"]
        known = {row.id: row for row in finished if _lost(other, row) is None}
        found |= known.keys()
        for row in manifest.rows:
            if row.id not in known or manifest.state(row).progress == "finished":
                continue
            target = manifest.run_folder(row)
            target.parent.mkdir(parents=True, exist_ok=True)
            with complete_folder(target) as temporary:
                shutil.copytree(
                    other.run_folder(known[row.id]), temporary, dirs_exist_ok=True, ignore=_neither_file_nor_folder
                )
            state = other.state(known[row.id])
            manifest.update(row, **{name: getattr(state, name) for name in state.__dataclass_fields__})
            reporter.say(f"{row.label}: taken from {folder}")
    return found


def _neither_file_nor_folder(folder: str, names: Sequence[str]) -> set[str]:
    """Links and devices: no run writes them, and in the folder of a stranger they may lead anywhere."""
    modes = {name: os.lstat(Path(folder, name)).st_mode for name in names}
    return {name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))}


def _check_versions(manifest: Manifest, reuse: Sequence[Path], taken: Collection[str]) -> None:
    """Reject rows that another version of the code began, unless this folder is named in `reuse`, or they were `taken`."""
    if any(os.path.realpath(folder) == os.path.realpath(manifest.folder) for folder in reuse):
        return
    now = code_version()
    for row in manifest.rows:
        code = manifest.state(row).code
        begun = manifest.run_folder(row).exists()  # else it starts anew
        if code and begun and code != now and row.id not in taken:
            changed = [n for n, v in now["versions"].items() if code.get("versions", {}).get(n) != v]
            what = (
                ", ".join(f"{n} {code.get('versions', {}).get(n)}" for n in changed) or "other sources of ld3m-plugin"
            )
            raise UsageError(
                f"{row.label} was made with {what}: rows of different versions are no equal terms. Choose another --out to make "
                f"all rows again, or keep the finished ones with --reuse {manifest.folder}"
            )


def _check_folder(folder: Path) -> None:
    """Raise `UsageError` if `folder` holds something else than a comparison."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another --out")
    entries = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if entries and MANIFEST not in entries and not entries <= _OURS | {LOCK}:
        raise UsageError(f"{folder} is not empty and has no {MANIFEST}: choose another --out, or an empty folder")


def status(folder: Path) -> tuple[Manifest, Mapping[str, list[ManifestRow]]]:
    """Read how far each row of a comparison is.

    Raises:
        HostError: there is no comparison in `folder`.
    """
    manifest = Manifest.read(folder)
    return manifest, {str(name): rows for name, rows in manifest.by_progress().items()}

"""`ld3m runs`: the runs and comparisons in a folder, how far they are, and their accuracies."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import say
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.errors import HostError, UsageError

_FIRST = Path("runs")


@dataclass(frozen=True)
class RunLine:
    """A run or a comparison as the list shows it; `accuracy` is the mean over architectures, in percent."""

    path: str
    status: str
    progress: str
    accuracy: float | None = None
    protocol: str = ""
    what: str = ""


def runs_command(
    folder: Annotated[Path, typer.Argument(help="Folder that holds runs and comparisons.")] = _FIRST,
    as_json: flags.Json = False,
) -> None:
    """List runs and comparisons: finished, running or stopped, steps, and accuracy.

    Examples: ld3m runs, ld3m runs /data/runs --json
    """
    if not folder.is_dir():
        if folder == _FIRST:
            typer.echo("[]") if as_json else say("no runs yet: ld3m distill makes one")
            return
        raise UsageError(f"{folder} is not a folder: give one that holds runs")
    lines = list(list_runs(folder))
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=2))
    elif not lines:
        say(f"there are no runs in {folder}")
    else:
        rows = [
            (
                line.path,
                line.status,
                line.progress,
                "" if line.accuracy is None else f"{line.accuracy:.1f}",
                line.protocol,
                line.what,
            )
            for line in lines
        ]
        print_columns(rows, ("run", "status", "steps", "accuracy %", "protocol", "what"))


def list_runs(folder: Path) -> Iterator[RunLine]:
    """The runs and comparisons in `folder` or, if it is one itself, that one; sorted by name. Damaged ones say so."""
    for path in [folder] if _kind(folder) else sorted(folder.iterdir()):
        kind = _kind(path)
        try:
            if kind == "comparison":
                yield _comparison(path)
            elif kind == "run":
                yield _run(path)
        except HostError as error:
            yield RunLine(str(path), "damaged", "", what=str(error))


def _kind(path: Path) -> str | None:
    from ld3m_plugin.comparison.manifest import MANIFEST
    from ld3m_plugin.runs.folder import CONFIG

    names = {CONFIG: "run", MANIFEST: "comparison"}
    return next((kind for name, kind in names.items() if (path / name).is_file()), None)


def _comparison(path: Path) -> RunLine:
    from ld3m_plugin.comparison.grid_runner import status

    manifest, rows = status(path)
    counts = {name: len(some) for name, some in rows.items() if some}
    finished, total = counts.get("finished", 0), len(manifest.rows)
    state = "finished" if finished == total else "running" if counts.get("running") else "stopped"
    compared = ", ".join(dict.fromkeys(row.generator for row in manifest.rows))
    return RunLine(str(path), state, f"{finished}/{total} rows", what=f"comparison: {compared}")


def _run(path: Path) -> RunLine:
    from ld3m_plugin.runs.folder import read_config

    config = read_config(path)
    done, results = _finished(path)
    if done is None:
        state, done = "running" if _is_locked(path) else "stopped", _checkpoint(path)
    else:
        state = "finished" if results or not config.evaluation.final else "not evaluated"
    pair = f"{config.generator.name}+{config.objective.name} on {config.data.name}"
    what = f"{pair}, {config.images_per_class} a class, seed {config.seed}"
    return RunLine(str(path), state, f"{done}/{config.steps}", *_accuracy(results), what=what)


def _finished(path: Path) -> tuple[int | None, dict[str, Any]]:
    """The step of the final images and their evaluation; None and nothing where there are none yet."""
    from ld3m_plugin.artefact.distilled_set import METADATA
    from ld3m_plugin.errors import ArtefactError
    from ld3m_plugin.runs.folder import DISTILLED
    from ld3m_plugin.storage import read_json

    file = path / DISTILLED / METADATA
    if not file.is_file():
        return None, {}
    metadata = read_json(file, ArtefactError)
    if not isinstance(metadata, dict):
        raise ArtefactError(f"{file} is damaged")
    results = metadata.get("results") or {}
    final = results.get("final") if isinstance(results, dict) else None
    final = final if isinstance(final, dict) else {}
    step = metadata.get("steps", final.get("step", _checkpoint(path)))
    return int(step) if isinstance(step, int) else _checkpoint(path), final


def _accuracy(final: dict[str, Any]) -> tuple[float | None, str]:
    try:
        means = [float(row["mean"]) for row in final["rows"] if row["images"] == "distilled"]
        return round(statistics.fmean(means), 2), str(final["protocol"]["name"])
    except (KeyError, TypeError, ValueError):
        return None, ""


def _checkpoint(path: Path) -> int:
    from ld3m_plugin.runs.checkpoints import checkpoint_folders

    folders = checkpoint_folders(path)
    number = folders[-1].name.rpartition("-")[2] if folders else "0"
    return int(number) if number.isdigit() else 0


def _is_locked(path: Path) -> bool:
    from ld3m_plugin.storage import LOCK, InUseError, locked

    if not (path / LOCK).exists():
        return False
    try:
        with locked(path / LOCK, path, ""):
            return False
    except InUseError:
        return True
    except UsageError:  # a folder that this user cannot write
        return False

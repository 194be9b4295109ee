"""Checkpoints of a run: `checkpoints/step-000200/state.safetensors`, complete or not there at all, with a digest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from torch import Tensor

from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.runs.folder import CHECKPOINTS, CONFIG
from ld3m_plugin.storage import complete_folder, read_sealed, signals_held, write_sealed

_STATE = "state.safetensors"
_KEPT = 2
_DAMAGED = "damaged-"


def save_checkpoint(run_folder: Path, iteration: int, state: dict[str, Tensor], settings: str) -> None:
    """Write the state after `iteration` updates; the two newest checkpoints are kept, and no damaged one.

    Ctrl-C and other signals that end the program wait until it is done.

    Args:
        settings: `config.digest` of the run; `latest_checkpoint` expects the same.

    Raises:
        ArtefactError: the run folder is gone.
        OSError: it cannot be written; the checkpoints before it are kept.
    """
    if not (run_folder / CONFIG).is_file():
        raise ArtefactError(
            f"{run_folder} was deleted or moved during the run: the state after {iteration} steps is not saved, start again"
        )
    folder = run_folder / CHECKPOINTS
    with signals_held():
        with complete_folder(folder / f"step-{iteration:06d}") as partial:
            write_sealed(partial / _STATE, state, {"settings": settings})
        # Removed only now that there is another.
        for old in (*checkpoint_folders(run_folder)[:-_KEPT], *folder.glob(f"{_DAMAGED}*"), *folder.glob(".*.partial")):
            shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(
    run_folder: Path, settings: Collection[str], warn: Callable[[str], None]
) -> dict[str, Tensor] | None:
    """The newest state of a run that is not damaged, or None without a checkpoint.

    Damaged ones are kept aside until the next checkpoint is written.

    Args:
        settings: digests of the run's settings, this version's and the former one's.
        warn: receives a line for each that is damaged.

    Raises:
        ArtefactError: all are damaged, or it was written under other settings.
    """
    folders = checkpoint_folders(run_folder)
    for folder in reversed(folders):
        path = folder / _STATE
        try:
            state, metadata = read_sealed(path, ArtefactError)
        except ArtefactError as error:
            if folder == folders[0]:
                others = "" if len(folders) == 1 else ", as are those after it"
                raise ArtefactError(f"{error}{others}: delete {folder.parent} to start from the first step") from error
            warn(f"{error}: going on from the checkpoint before it")
            continue
        if metadata.get("settings") not in settings:
            raise ArtefactError(
                f"{path} was written under other settings than those in {run_folder / CONFIG}: "
                "restore them, or start a new run"
            )
        return state
    return None


def set_damaged_aside(run_folder: Path, iteration: int) -> None:
    """Rename the checkpoints after `iteration`, with which the run goes on: they would count as newer ones."""
    for folder in checkpoint_folders(run_folder):
        if _step(folder) > iteration:
            aside = folder.with_name(_DAMAGED + folder.name)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def checkpoint_folders(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [path for path in (run_folder / CHECKPOINTS).glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))

"""Checkpoints of a run: `checkpoints/step-000200/state.safetensors`, complete or not there at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.runs.folder import CHECKPOINTS, CONFIG
from ld3m_plugin.storage import complete_folder, read_tensors, write_tensors

_STATE = "state.safetensors"
_KEPT = 2


def save_checkpoint(run_folder: Path, iteration: int, state: dict[str, Tensor], settings: str) -> None:
    """Write the state after `iteration` updates; the two newest checkpoints are kept.

    Args:
        settings: `config.digest` of the run; `latest_checkpoint` expects the same.
    """
    with complete_folder(run_folder / CHECKPOINTS / f"step-{iteration:06d}") as folder:
        write_tensors(folder / _STATE, state, {"settings": settings})
    for old in checkpoint_folders(run_folder)[:-_KEPT]:
        shutil.rmtree(old)


def latest_checkpoint(run_folder: Path, settings: Collection[str]) -> dict[str, Tensor] | None:
    """The newest state of a run, or None without a checkpoint.

    Args:
        settings: digests of the run's settings, this version's and the former one's.

    Raises:
        ArtefactError: the file is damaged, or was written under other settings.
    """
    folders = checkpoint_folders(run_folder)
    if not folders:
        return None
    path = folders[-1] / _STATE
    try:
        state, metadata = read_tensors(path, ArtefactError)
    except ArtefactError as error:
        raise ArtefactError(f"{error}: delete {path.parent} to go on from the checkpoint before it") from error
    if metadata.get("settings") not in settings:
        raise ArtefactError(
            f"{path} was written under other settings than those in {run_folder / CONFIG}: "
            "restore them, or start a new run"
        )
    return state


def checkpoint_folders(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [path for path in (run_folder / CHECKPOINTS).glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

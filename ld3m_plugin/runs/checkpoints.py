"""Checkpoints of a run: `checkpoints/step-000200/state.safetensors`, complete or not there at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.storage import complete_folder, write_tensors

_FOLDER, _STATE = "checkpoints", "state.safetensors"
_KEPT = 2


def save_checkpoint(run_folder: Path, iteration: int, state: dict[str, Tensor], settings: str) -> Path:
    """Write the state after `iteration` updates; the two newest checkpoints are kept.

    Args:
        settings: a digest of what decides the run; `latest_checkpoint` wants the same.
    """
    target = run_folder / _FOLDER / f"step-{iteration:06d}"
    with complete_folder(target) as folder:
        write_tensors(folder / _STATE, state, {"settings": settings})
    for old in checkpoint_folders(run_folder)[:-_KEPT]:
        shutil.rmtree(old)
    return target


def latest_checkpoint(run_folder: Path, settings: str) -> dict[str, Tensor] | None:
    """The newest state of a run, or None where there is none.

    Raises:
        ArtefactError: the file is damaged, or was written under other settings.
    """
    folders = checkpoint_folders(run_folder)
    if not folders:
        return None
    path = folders[-1] / _STATE
    try:
        with safe_open(str(path), framework="pt") as file:
            written = (file.metadata() or {}).get("settings")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged ({error}): delete its folder to go on from the one before") from error
    if written != settings:
        raise ArtefactError(
            f"{path} was written under other settings than those in {run_folder / 'config.yaml'}: "
            "put them back, or start a new run"
        )
    return state


def checkpoint_folders(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = (run_folder / _FOLDER).glob("step-*") if (run_folder / _FOLDER).is_dir() else []
    return sorted((p for p in found if re.fullmatch(r"step-\d+", p.name)), key=lambda p: int(p.name[5:]))

"""What a stopped training is recognised by: its folder, and digests of the data, the options and the seed."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import data_digest, sha256
from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import Options


def check_folder(folder: Path, ours: tuple[str, ...]) -> None:
    """Whether `folder` may be written into: it is not there, empty, or of a training.

    Args:
        ours: patterns of the files that such a training leaves there.

    Raises:
        UsageError: it is a file, or has only things in it that no training wrote.
    """
    advice = "move it away, or choose another --out"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and states of the training would be kept in a folder there: {advice}")
    if folder.is_dir() and any(folder.iterdir()) and not any(any(folder.glob(name)) for name in ours):
        raise UsageError(f"{folder} is not empty and no training left it, states would be kept there: {advice}")


def origin(task: Task, options: Options, seed: int, part: tuple[str, ...]) -> dict[str, str]:
    """SHA-256 of `data`, `options` and `seed`, of the options those whose names start with one of `part`.

    The data is known by what is in it (`data_digest`): where it is kept, and how its path is spelled, is of no account.
    """
    chosen = {k: v for k, v in options.model_dump(mode="json").items() if k.startswith(part)}
    return {"data": data_digest(task), "options": sha256(chosen), "seed": sha256(seed)}

"""Checks that a stopped training may continue: its folder, and digests of the data, the options and the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import data_digest, sha256
from ld3m_plugin.errors import UsageError, one_line
from ld3m_plugin.options import Options
from ld3m_plugin.storage import is_temporary, remove_leftovers


def check_folder(folder: Path, ours: tuple[str, ...]) -> None:
    """Check that the states of a training may be kept in `folder`, and remove incomplete files that a killed one left.

    Args:
        ours: patterns of the files that a training leaves there.

    Raises:
        UsageError: it is a file, or a folder that holds files and none of a training.
    """
    advice = "the states of the training are kept there, so move it away, or choose another --out"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: {advice}")
    if not folder.exists():
        return
    found = [path for path in folder.iterdir() if not is_temporary(path)]
    if found and not any(any(folder.glob(name)) for name in ours):
        raise UsageError(f"{folder} is not empty and no training left it: {advice}")
    remove_leftovers(folder, after=0)


def origin(task: Task, options: Options, seed: int, part: tuple[str, ...]) -> dict[str, str]:
    """Compute the SHA-256 of the data (its content, not its path), of the seed, and of options whose names start with `part`."""
    chosen = decisive(options, part)
    return {"data": data_digest(task), "options": sha256(chosen), "seed": sha256(seed)}


def decisive(options: Options, part: tuple[str, ...]) -> dict[str, Any]:
    """The options whose names start with `part`, as plain data."""
    return {k: v for k, v in options.model_dump(mode="json").items() if k.startswith(part)}


def differences(then: str | None, now: Mapping[str, Any]) -> str:
    """Say which settings differ from those in the JSON text `then`, each with its old and new value; "" where it does not tell.

    >>> differences('{"steps": 400, "rate": 1}', {"steps": 300, "rate": 1})
    'steps was 400, now 300'
    """
    try:
        old = json.loads(then or "{}")
    except ValueError:
        return ""
    if not isinstance(old, dict):
        return ""
    changed = [name for name in now if name in old and old[name] != now[name]]
    return ", ".join(
        one_line(f"{name} was {json.dumps(old[name])}, now {json.dumps(now[name])}", 100) for name in changed
    )

"""What a stopped training is recognised by: its folder, and digests of the data, the options and the seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import BackendOptions

_COMPARED = 64


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


def origin(task: Task, options: BackendOptions, seed: int, part: tuple[str, ...]) -> dict[str, str]:
    """SHA-256 of `data`, `options` and `seed`, of the options those whose names start with one of `part`.

    The data is known by its classes, their counts, sizes and some of its images: where it is kept, and how its path is
    spelled, is of no account.
    """
    chosen = {k: v for k, v in options.model_dump(mode="json").items() if k.startswith(part)}
    facts = (task.class_names, task.train.counts(), task.image_size, task.channels, _some_pixels(task))
    return {"data": _sha256(facts), "options": _sha256(chosen), "seed": _sha256(seed)}


def _some_pixels(task: Task) -> str:
    """A digest of training images evenly spaced over all: another split has the same counts."""
    total, start, digest = sum(task.train.counts()), 0, hashlib.sha256()
    numbers = torch.arange(min(total, _COMPARED)) * total // max(1, min(total, _COMPARED))
    for class_index, count in enumerate(task.train.counts()):
        which = numbers[(numbers >= start) & (numbers < start + count)] - start
        if len(which):
            digest.update(task.train.read(class_index, which).contiguous().numpy().tobytes())
        start += count
    return digest.hexdigest()


def _sha256(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

"""Digests that identify a data set wherever it is stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from ld3m_plugin.task import Task

_COMPARED = 64


def data_digest(task: Task) -> str:
    """SHA-256 of the training data: class names and counts, image size and channels, and the pixels of 64 images."""
    return sha256((task.class_names, task.train.counts(), task.image_size, task.channels, _some_pixels(task)))


def sha256(facts: Any) -> str:
    """SHA-256 of plain data, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _some_pixels(task: Task) -> str:
    """Digest of training images spaced evenly over all classes: it tells apart splits with equal counts."""
    total, start, digest = sum(task.train.counts()), 0, hashlib.sha256()
    numbers = torch.arange(min(total, _COMPARED)) * total // max(1, min(total, _COMPARED))
    for class_index, count in enumerate(task.train.counts()):
        which = numbers[(numbers >= start) & (numbers < start + count)] - start
        if len(which):
            digest.update(task.train.read(class_index, which).contiguous().numpy().tobytes())
        start += count
    return digest.hexdigest()

"""Digests that identify a data set wherever it is stored."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ld3m_plugin.data.numbered_images import NumberedImages, evenly_spaced
from ld3m_plugin.task import Task

_COMPARED = 64


def data_digest(task: Task) -> str:
    """SHA-256 of the training data: class names and counts, image size and channels, and the pixels of 64 images."""
    images = NumberedImages(task.train)
    # Spaced evenly over all classes: they tell apart splits with equal counts.
    pixels, _ = images.read(evenly_spaced(len(images), _COMPARED))
    some = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return sha256((task.class_names, task.train.counts(), task.image_size, task.channels, some))


def sha256(facts: Any) -> str:
    """SHA-256 of plain data, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

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
    return sha256((task.class_names, task.train.counts(), task.image_size, task.channels, _some_pixels(task)))


def sha256(facts: Any) -> str:
    """SHA-256 of plain data, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _some_pixels(task: Task) -> str:
    """Digest of training images spaced evenly over all classes: it tells apart splits with equal counts."""
    images = NumberedImages(task.train)
    pixels, _ = images.read(evenly_spaced(len(images), _COMPARED))
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

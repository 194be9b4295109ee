"""What a data set is recognised by, wherever it is kept and however its path is spelled."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ld3m_plugin.data.numbered_images import NumberedImages, evenly_spaced
from ld3m_plugin.task import Task

_COMPARED = 64


def data_digest(task: Task) -> str:
    """SHA-256 of the training data: its classes, their counts, the size of its images, and the pixels of some of them."""
    return sha256((task.class_names, task.train.counts(), task.image_size, task.channels, _some_pixels(task)))


def sha256(facts: Any) -> str:
    """SHA-256 of plain data, written as JSON with its keys in order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _some_pixels(task: Task) -> str:
    """A digest of training images evenly spaced over all: another split has the same counts."""
    images = NumberedImages(task.train)
    pixels, _ = images.read(evenly_spaced(len(images), _COMPARED))
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

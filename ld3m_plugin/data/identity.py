"""Digests that identify a data set wherever it is stored, and what records of it are compared by."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

from ld3m_plugin.data.class_names import comparable
from ld3m_plugin.data.numbered_images import NumberedImages, evenly_spaced
from ld3m_plugin.task import ImagesByClass, Task

_COMPARED = 64
_SHORT = 16  # hexadecimal digits that a record keeps of each class
#: Digests of each class, by the identity of images that are still in use: they are asked for with every record.
_KNOWN: dict[int, tuple[str, ...]] = {}


def data_digest(task: Task) -> str:
    """SHA-256 of the training data: class names and counts, image size and channels, and the pixels of 64 images.

    Stored experts and priors are known by it. What a run is compared by is `data_facts`, which leaves no image out.
    """
    images = NumberedImages(task.train)
    # Spaced evenly over all classes: they tell apart splits with equal counts.
    pixels, _ = images.read(evenly_spaced(len(images), _COMPARED))
    some = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    return sha256((task.class_names, task.train.counts(), task.image_size, task.channels, some))


def images_digest(images: ImagesByClass) -> str:
    """Digest of all images by class, in order: `METHOD:SHA-256`, see `ImagesByClass.digest` for what it can tell.

    It is of pixels as the task has them: a picture that another decoder reads with other pixels is another picture.
    """
    classes = _class_digests(images)
    methods = sorted({digest.partition(":")[0] for digest in classes})
    return f"{'+'.join(methods)}:{sha256(classes)}"


def task_digest(task: Task) -> str:
    """Digest of class names, training and test images: `METHOD:SHA-256`, for records of a line."""
    train, test = images_digest(task.train), task.test_images and images_digest(task.test_images)
    return f"{train.partition(':')[0]}:{sha256((_names(task.class_names), train, test, *whitening_facts(task)))}"


def whitening_facts(task: Task) -> dict[str, Any]:
    """What records say of whitening: nothing where there is none, so that older records are of the same data.

    The map itself follows from the training images, up to the last digits, which are the machine's.
    """
    return {} if task.whitening is None else {"zca": True}


def data_facts(task: Task) -> dict[str, Any]:
    """Record of a data set: where it lies, its classes, how many images each has, whitening, and digests of the images."""
    test = task.test_images
    return {
        "source": task.source,
        "classes": list(task.class_names),
        "train": list(task.train.counts()),
        "test": None if test is None else list(test.counts()),
        **whitening_facts(task),
        "images": {
            "train": images_digest(task.train),
            "test": None if test is None else images_digest(test),
            "classes": [digest.partition(":")[2][:_SHORT] for digest in _class_digests(task.train)],
        },
    }


def recorded_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The record of `data_facts` in the metadata of a distilled set, as far as it is there."""
    data, names = metadata.get("data"), metadata.get("class_names")
    facts = dict(data) if isinstance(data, Mapping) else {}
    return facts if names is None else {**facts, "classes": names}


def data_difference(recorded: Any, task: Task) -> str | None:
    """Say how the data of `task` differs from a record of `data_facts`, or None if it is the same.

    What was not recorded is taken to be the same. Class names are compared in their one form (`class_names.py`), images by
    digests of one method.
    """
    record, now = (recorded if isinstance(recorded, dict) else {}), data_facts(task)
    names = record.get("classes", now["classes"])
    if not isinstance(names, list) or _names(names) != _names(now["classes"]):
        same = isinstance(names, list) and sorted(_names(names)) == sorted(_names(now["classes"]))
        return "with its classes in another order" if same else "with other classes"
    exchanged = exchanged_classes(record, task)
    if exchanged is not None:
        return exchanged
    for split, what in (("train", "training"), ("test", "test")):
        if record.get(split, now[split]) != now[split]:
            return f"with another number of {what} images"
    if record and bool(record.get("zca")) != bool(now.get("zca")):
        return "with ZCA whitening" if now.get("zca") else "without ZCA whitening"
    images = record.get("images")
    for split, what in (("train", "training"), ("test", "test")):
        old = images.get(split) if isinstance(images, dict) else None
        if not same_digest(old, now["images"][split]):
            return f"with other {what} images"
    return None


def exchanged_classes(recorded: Any, task: Task) -> str | None:
    """Say which class has the images that a record has under another name, or None."""
    record, now = (recorded if isinstance(recorded, dict) else {}), data_facts(task)
    images, names = record.get("images"), record.get("classes", now["classes"])
    old = images.get("classes") if isinstance(images, dict) else None
    if not isinstance(old, list) or not isinstance(names, list) or len(old) != len(names):
        return None
    owner = {str(digest): str(name) for digest, name in zip(old, names, strict=True) if old.count(digest) == 1}
    for name, digest in zip(now["classes"], now["images"]["classes"], strict=True):
        former = owner.get(digest, name)
        if comparable(former) != comparable(name):
            return f"where {name!r} has the images that were {former!r}: names of classes are exchanged"
    return None


def same_digest(one: Any, other: Any) -> bool:
    """Whether two digests `METHOD:SHA-256` are equal, or cannot be compared since one is missing or of another method."""
    if not (isinstance(one, str) and isinstance(other, str) and one and other):
        return True
    return one == other or one.partition(":")[0] != other.partition(":")[0]


def sha256(facts: Any) -> str:
    """SHA-256 of plain data, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _class_digests(images: ImagesByClass) -> tuple[str, ...]:
    key = id(images)
    if key not in _KNOWN:
        # Images of a plugin need not derive from the contract's class.
        digest = getattr(images, "digest", None) or partial(ImagesByClass.digest, images)
        _KNOWN[key] = tuple(digest(index) for index in range(len(images.counts())))
        weakref.finalize(images, _KNOWN.pop, key, None)
    return _KNOWN[key]


def _names(names: Any) -> list[str]:
    return [comparable(str(name)) for name in names]

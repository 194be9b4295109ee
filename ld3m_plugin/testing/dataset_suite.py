"""The rules of data sets."""

from __future__ import annotations

from typing import Any

import torch

from ld3m_plugin.contracts import ImagesByClass, Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import HostError
from ld3m_plugin.options import options_model
from ld3m_plugin.registry import Backend, Owner, Registry
from ld3m_plugin.task import DataOptions, DatasetFactory
from ld3m_plugin.testing.tiny_task import rules

_READ = 5  # images of each class


def check_dataset(factory: DatasetFactory, argument: str = "", **options: Any) -> None:
    """Check a data set against the contract.

    Facts that fit each other; two classes or more, with training and test images; uint8 images of the task's shape that are the
    same whenever, beside whichever and in whichever order they are read; two loads give the same images and digests; the test
    images are not the training images; `image_size` and `grayscale` do what they say, where it takes them, or are refused by a
    `HostError`; the global random stream stays untouched.

    Args:
        factory: what `register_datasets` registers.
        argument: the text after the colon of `--data NAME:ARGUMENT`.
        options: values of its options.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    with rules("a data set"):
        task, again = (_load(factory, argument, options) for _ in range(2))
        _check_classes(task)
        assert task.class_names == again.class_names, "class_names must be the same whenever the data set is loaded"
        for part in ("train", "test"):
            first, second = getattr(task, part), getattr(again, part)
            assert first.counts() == second.counts(), (
                f"{part}.counts() must be the same whenever the data set is loaded"
            )
            for class_index in range(task.num_classes):
                _check_images(f"{part} images of class {task.class_names[class_index]!r}", first, second, class_index)
        _check_split(task)
        _check_usual_options(factory, argument, options)


def _load(factory: DatasetFactory, argument: str, options: dict[str, Any]) -> Task:
    registry = Registry()
    registry.add(Backend("dataset", "checked", factory, "", Owner("checked", "the checked data set", "")))
    return load_task(f"checked:{argument}" if argument else "checked", registry=registry, **options)


def _check_classes(task: Task) -> None:
    assert task.num_classes >= 2, f"a data set needs two classes or more, it has {task.num_classes}"
    assert len(set(task.class_names)) == task.num_classes, "class_names must differ from each other"
    assert task.test_images is not None, "a data set needs test_images: evaluations read them"
    for part in (task.train, task.test):
        assert min(part.counts()) > 0, f"each class needs training and test images, counts are {part.counts()}"
    groups = task.test_groups
    assert groups is None or len(groups) == sum(task.test.counts()), "test_groups needs a number for each test image"


def _check_images(what: str, images: ImagesByClass, again: ImagesByClass, class_index: int) -> None:
    which = torch.arange(min(images.counts()[class_index], _READ))
    read = images.read(class_index, which)
    assert torch.equal(images.read(class_index, which.flip(0)), read.flip(0)), (
        f"{what} must not depend on the order of reading"
    )
    alone = torch.cat([images.read(class_index, one) for one in which.split(1)])
    assert torch.equal(alone, read), f"{what} must not depend on which others are read"
    assert torch.equal(again.read(class_index, which), read), f"{what} must be the same whenever the data set is loaded"
    digest = images.digest(class_index)
    assert isinstance(digest, str) and ":" in digest, f"digest must be METHOD:SHA-256, it is {digest!r}"
    assert again.digest(class_index) == digest, f"the digest of {what} must be the same whenever the data set is loaded"


def _check_split(task: Task) -> None:
    def first(images: ImagesByClass, class_index: int) -> torch.Tensor:
        return images.read(class_index, torch.arange(min(images.counts()[class_index], _READ)))

    same = [torch.equal(first(task.train, k), first(task.test, k)) for k in range(task.num_classes)]
    assert not all(same), "the test images must not be the training images"


def _check_usual_options(factory: DatasetFactory, argument: str, options: dict[str, Any]) -> None:
    fields = (options_model(factory) or DataOptions).model_fields
    for name, value, fact, expected in (
        ("image_size", 12, "image_size", 12),
        ("grayscale", True, "channels", 1),
        ("grayscale", False, "channels", 3),
    ):
        if name not in fields or name in options:
            continue
        try:
            task = _load(factory, argument, {**options, name: value})
            task.train.read(0, torch.arange(1))
        except HostError as error:
            assert "the checked data set" not in str(error), str(error)  # a fault, not a refusal
            continue
        found = getattr(task, fact)
        assert found == expected, (
            f"{name}={value} must give {fact} = {expected}, it gives {found}: do not take it, or follow it"
        )

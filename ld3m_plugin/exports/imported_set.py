"""Images and labels that other programs saved with `torch.save`, as a distilled set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.reading import check_images
from ld3m_plugin.data.data_settings import absolute_data
from ld3m_plugin.data.identity import whitening_facts
from ld3m_plugin.data.safe_torch import load_tensors
from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.storage import versions
from ld3m_plugin.task import Task

#: The largest difference of a mean or std that is one of rounding.
_SAME = 1e-4
#: Above every published data set: a wild label in a file asks for no more names than that.
_MOST_CLASSES = 100_000


def import_tensors(
    images: Path | str,
    labels: Path | str,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    class_names: Sequence[str] = (),
    task: Task | None = None,
) -> DistilledSet:
    """Read images and labels such as DC, MTT and GLaD save them: `images_best.pt` and `labels_best.pt`.

    Nothing in the files is executed.

    Args:
        images: file of a tensor (N, C, H, H), normalised.
        labels: file of class indices (N,), or of probabilities (N, K).
        mean, std: per channel, that the images were normalised with; nothing in the files says them.
        class_names: K names in label order; default: those of `task`, else numbers.
        task: the data that the set was made from. Images that were normalised with another mean or std than the task's are
            normalised with the task's, so that networks see training and test images alike.

    Raises:
        UsageError: mean, std or class names do not fit the images.
        ArtefactError: a file is missing, damaged or holds something else, or the images do not fit the task.
    """
    pictures, classes = _images(Path(images)), _labels(Path(labels))
    if pictures.ndim == 4 and {len(mean), len(std)} != {pictures.shape[1]}:
        raise UsageError(f"images {tuple(pictures.shape)} need {pictures.shape[1]} numbers of mean and of std")
    if min(std, default=0.0) <= 0:
        raise UsageError(f"std {list(std)}: each must be above 0")
    names = list(class_names) or list(task.class_names if task else ()) or _numbers(classes)
    check_images(pictures, classes, len(mean), len(names), f"{images} and {labels}")
    if task is not None:
        pictures, mean, std = _as_task(pictures, mean, std, names, task)
    facts = _metadata(pictures, classes, names, mean, std, Path(images), task)
    return DistilledSet(pictures, classes, facts, whitening=None if task is None else task.whitening)


def _tensor(path: Path) -> Tensor:
    if not path.is_file():
        raise ArtefactError(f"{path} is missing")
    found = load_tensors(path, ArtefactError, what="file of images or labels", needed_for="a tensor")
    if not isinstance(found, Tensor):
        raise ArtefactError(f"{path} holds a {type(found).__name__}, not one tensor")
    if found.layout != torch.strided or found.is_complex():
        raise ArtefactError(
            f"{path} holds a tensor of {found.dtype} and {found.layout}: save a dense one of real numbers"
        )
    return found.detach()


def _images(path: Path) -> Tensor:
    images = _tensor(path)
    if not images.is_floating_point():
        raise ArtefactError(f"{path} holds {images.dtype}: images must be normalised floats, (pixels - mean) / std")
    return images.float()


def _labels(path: Path) -> Tensor:
    labels = _tensor(path)
    if labels.is_floating_point() and labels.ndim == 2:
        return labels.float()
    if labels.ndim == 0 or not torch.equal(labels.long().to(labels.dtype), labels):
        raise ArtefactError(
            f"{path} holds {tuple(labels.shape)} of {labels.dtype}: labels are class indices (N,), or probabilities (N, K)"
        )
    return labels.long()


def _numbers(labels: Tensor) -> list[str]:
    if labels.ndim == 2:
        return [str(index) for index in range(labels.shape[1])]
    largest = int(labels.max()) if len(labels) else -1
    if largest >= _MOST_CLASSES:
        raise UsageError(f"labels go to {largest}: without class names, they must be below {_MOST_CLASSES}")
    return [str(index) for index in range(largest + 1)]


def _as_task(
    images: Tensor, mean: Sequence[float], std: Sequence[float], names: Sequence[str], task: Task
) -> tuple[Tensor, Sequence[float], Sequence[float]]:
    """Images, mean and std as those of the task."""
    expected = (task.num_classes, task.channels, task.image_size)
    if (len(names), images.shape[1], images.shape[2]) != expected:
        raise ArtefactError(
            f"the set has {len(names)} classes and images {tuple(images.shape)}, data set {task.name!r} has "
            f"{task.num_classes} classes and {task.channels} channels of {task.image_size} pixels: give other data or options"
        )
    pairs = [*zip(mean, task.mean, strict=True), *zip(std, task.std, strict=True)]
    if all(abs(a - b) <= _SAME for a, b in pairs):
        return images, task.mean, task.std
    if task.whitening is not None:
        raise ArtefactError(
            f"whitened images were normalised with mean {list(task.mean)} and std {list(task.std)} of data set {task.name!r}, "
            "and are given with others: give --mean and --std as these, or leave out -D zca=true where they are not whitened"
        )
    old_mean, old_std, new_mean, new_std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std, task.mean, task.std))
    return (images * old_std + old_mean - new_mean) / new_std, task.mean, task.std


def _metadata(
    images: Tensor,
    labels: Tensor,
    names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    path: Path,
    task: Task | None,
) -> dict[str, Any]:
    hard = hard_labels(labels)
    content: dict[str, Any] = {
        "data": {
            "name": task.name if task else path.stem,
            "source": task.source if task else f"imported from {path.name}",
            **({} if task is None else whitening_facts(task)),
        },
        "class_names": list(names),
        "image_size": images.shape[-1],
        "channels": images.shape[1],
        "mean": list(mean),
        "std": list(std),
        "value_range": "images are (pixels in [0, 1] - mean) / std, not clipped",
        "images_per_class": max(1, int(hard.bincount().max())),
        "imported": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "versions": versions(),
    }
    if task is not None:
        content["wordnet_ids"] = list(task.wordnet_ids)
        content["config"] = {"data": absolute_data(task.name, dict(task.read_with))}
    return content

"""A caller's tensors and torch data sets as images of a task: checked, and kept as they are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ld3m_plugin.errors import DataError
from ld3m_plugin.images.images_by_class import InMemoryImages, by_class

Pair = tuple[Tensor, Tensor]
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def checked_statistics(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std as C numbers each.

    Raises:
        DataError: they are no numbers, of different lengths, not finite, or a deviation is not above 0.
    """
    try:
        means, stds = (tuple(torch.as_tensor(value, dtype=torch.float64).flatten().tolist()) for value in (mean, std))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"mean = {mean!r}, std = {std!r}: give a number for each channel") from error
    if (
        not means
        or len(means) != len(stds)
        or not all(math.isfinite(value) for value in (*means, *stds))
        or min(stds) <= 0
    ):
        raise DataError(f"mean = {means}, std = {stds}: give a finite number for each channel, and deviations above 0")
    return means, stds


def as_tensor(given: Any) -> Any:
    """A tensor of what a caller gave: an array of numpy, or integers in a list; anything else, which is refused, as it is.

    >>> as_tensor([0, 1]).dtype
    torch.int64
    """
    if isinstance(given, Tensor):
        return given
    is_array = hasattr(given, "__array__")
    if not (is_array or (isinstance(given, list | tuple) and all(isinstance(item, int) for item in given))):
        return given
    try:
        return torch.as_tensor(np.array(given) if is_array else given)  # a copy: the caller's array may be read-only
    except (TypeError, ValueError, RuntimeError):  # text, or objects
        return given


def checked_names(labels: Any, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The class names, in label order; those of classes 0, 1, ... up to the largest label where none are given.

    Raises:
        DataError: labels are no class indices, or names are missing or given twice.
    """
    if not isinstance(labels, Tensor) or labels.ndim != 1 or not len(labels) or labels.is_floating_point():
        what = f"{tuple(labels.shape)} {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
        raise DataError(f"labels are {what}: give integers (n,), the index of each image's class")
    if class_names is None:
        # Each class needs an image; without this, one wild label asks for names without end.
        if int(labels.max()) >= len(labels):
            raise DataError(
                f"labels go to {int(labels.max())} for {len(labels)} images: number the classes 0, 1, ..., each with an image, "
                "or give class_names"
            )
        return tuple(f"class {index}" for index in range(int(labels.max()) + 1))
    names = tuple(map(str, class_names))
    if not names or len(set(names)) != len(names):
        raise DataError(f"class_names = {names}: give each class a name of its own")
    return names


def given_images(pair: Pair, mean: Sequence[float], names: Sequence[str], origin: str) -> InMemoryImages:
    """Images (n, C, H, H) and labels (n,) of a caller by class, on the CPU: uint8 pixels, or normalised floats as they are.

    Raises:
        DataError: they fit neither each other nor mean and names, are not finite, or are pixels in [0, 1].
    """
    images, labels = pair
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[2] != images.shape[3] or not images.numel():
        what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"{origin}: images are {what}: give a tensor (n, C, H, W) of square images")
    if images.shape[1] != len(mean) or images.shape[1] not in (1, 3):
        raise DataError(
            f"{origin}: images have {images.shape[1]} channels, mean and std {len(mean)}: both must be 3, or 1 for grey"
        )
    checked_names(labels, names)
    images = images.detach().cpu()
    normalised = images.dtype in _FLOATS
    if normalised:
        _check_normalised(images, mean, origin)
        images = images.float()
    elif images.dtype != torch.uint8:
        raise DataError(f"{origin}: images are {images.dtype}: give uint8 pixels, or normalised float32")
    return by_class(images, labels.detach().cpu(), names, origin, normalised=normalised)


def _check_normalised(images: Tensor, mean: Sequence[float], origin: str) -> None:
    low, high = float(images.min()), float(images.max())
    if not torch.isfinite(images).all():
        raise DataError(f"{origin}: images have values that are NaN or infinite")
    # A normalised image has negative values wherever a pixel is darker than the mean.
    if low >= 0 and any(value > 0 for value in mean):
        raise DataError(
            f"{origin}: float images go from {low:g} to {high:g}, so they are not normalised with mean {tuple(mean)}: "
            "give (pixels - mean) / std, with pixels in [0, 1], or uint8 pixels"
        )


def dataset_tensors(dataset: Any) -> Pair:
    """All items of a torch data set, read once: images (n, C, H, W), labels (n,).

    Items are pairs of an image (a tensor (C, H, W), or a picture of PIL, which becomes uint8) and a class index.

    Raises:
        DataError: there are no such items, or images have several shapes or types.
    """
    images, labels = [], []
    for index in range(len(dataset)):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"item {index} of the data set is {type(item).__name__}: it must be (image, class index)")
        images.append(_image(item[0], index))
        labels.append(int(item[1]))
    kinds = {(tuple(image.shape), image.dtype) for image in images}
    if len(kinds) != 1:
        shown = ", ".join(f"{shape} {dtype}" for shape, dtype in sorted(kinds, key=str)[:3]) or "no item"
        raise DataError(f"images of the data set need one shape and type, it has {shown}: resize them in its transform")
    return torch.stack(images), torch.tensor(labels)


def _image(image: Any, index: int) -> Tensor:
    if isinstance(image, Tensor):
        return image
    from torchvision.transforms.functional import pil_to_tensor  # late: a second to import

    try:
        pixels: Tensor = pil_to_tensor(image)
    except TypeError as error:
        raise DataError(
            f"item {index} of the data set has a {type(image).__name__} for an image: give a tensor, or a picture of PIL"
        ) from error
    return pixels


def dataset_statistics(dataset: Any) -> tuple[Any, Any]:
    """Mean and std that the data set's own transform normalises with (`torchvision.transforms.Normalize`).

    Raises:
        DataError: it has none.
    """
    transform = getattr(dataset, "transform", None)
    for step in (*getattr(transform, "transforms", ()), transform):
        if hasattr(step, "mean") and hasattr(step, "std"):
            return step.mean, step.std
    raise DataError("the data set has no Normalize in its transform: give mean= and std=, of pixels in [0, 1]")

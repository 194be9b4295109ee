"""Images held in memory: uint8, RGB (or one grey channel), channels first."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from ld3m_plugin.data.transforms import pad_to, resize_square, with_channels
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass

#: Resized copies larger than this are made on use instead of being kept.
KEEP_BYTES = 512 * 2**20
#: Images in memory of at most that many bytes are kept on a CUDA device too, from their first use there.
RESIDENT_BYTES = 2**30
#: A data file (uncompressed) larger than this is not read; the largest official one, of CIFAR-100, has 155 MB.
LARGEST_FILE = 256 * 2**20


def open_data(path: Path, *, packed: bool) -> BinaryIO:
    """Open a data file, or what a gzip file unpacks to.

    Raises:
        DataError: the file itself is larger than `LARGEST_FILE`: zeros behind an archive would be read to their end.
        OSError: it cannot be opened.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path} is larger than {LARGEST_FILE} bytes: get it again")
    return cast(BinaryIO, gzip.open(path) if packed else path.open("rb"))


class InMemoryImages(ImagesByClass):
    """Images of K classes in memory.

    Args:
        images: one uint8 tensor (n_k, C, H, W) per class, with the same C, H and W; C is RGB or one grey channel.
        origin: path or name of the source, for error messages.

    Raises:
        ValueError: there is no class, the dtype is not uint8, or shapes differ.
    """

    def __init__(self, images: Sequence[Tensor], origin: str) -> None:
        self.origin = origin
        self._images = list(images)
        shapes = {tuple(tensor.shape[1:]) for tensor in self._images}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise ValueError(f"images of all classes need one shape (n, C, H, W), got {shapes or 'no class'}")
        if any(tensor.dtype != torch.uint8 for tensor in self._images):
            raise ValueError("images in memory must be uint8")
        self._resident: dict[tuple[torch.device, int], Tensor] = {}

    def counts(self) -> tuple[int, ...]:
        return tuple(len(tensor) for tensor in self._images)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        return self._images[class_index].index_select(0, which)

    def read_to(self, class_index: int, which: Tensor, device: torch.device) -> Tensor:
        """Images `which` (n,) of one class as uint8 (n, C, H, W) on `device`: on CUDA, of a copy that stays there if it fits."""
        if device.type != "cuda" or sum(tensor.nbytes for tensor in self._images) > RESIDENT_BYTES:
            return super().read_to(class_index, which, device)
        if (device, class_index) not in self._resident:
            self._resident[device, class_index] = to_device(self._images[class_index], device)
        return self._resident[device, class_index].index_select(0, to_device(which, device))

    def digest(self, class_index: int) -> str:
        """SHA-256 of the pixels of all images of a class."""
        return f"pixels:{hashlib.sha256(self._images[class_index].contiguous().numpy().data).hexdigest()}"


class ReshapedImages(ImagesByClass):
    """Square images of `source`, with another number of channels or another size, made on use.

    Args:
        source: images (n, C, s, s).
        channels: 1 or 3.
        size: height and width of the result.
        pad: if given, first centre each image in a black square of this side.
    """

    def __init__(self, source: ImagesByClass, channels: int, size: int, pad: int | None = None) -> None:
        self.origin = source.origin
        self._source, self._channels, self._size, self._pad = source, channels, size, pad

    def counts(self) -> tuple[int, ...]:
        return self._source.counts()

    def read(self, class_index: int, which: Tensor) -> Tensor:
        images = with_channels(self._source.read(class_index, which), self._channels)
        if self._pad is not None:
            images = pad_to(images, self._pad)
        return resize_square(images, self._size)

    def digest(self, class_index: int) -> str:
        """A digest of the images of `source` and of what is made of them."""
        made = (self._source.digest(class_index), self._channels, self._size, self._pad)
        return f"reshaped:{hashlib.sha256(repr(made).encode()).hexdigest()}"


def reshaped(source: InMemoryImages, channels: int, size: int, pad: int | None = None) -> ImagesByClass:
    """`source` with other channels or size: kept in memory up to `KEEP_BYTES`, else made on each use.

    Both give the same images. CIFAR at 128x128 would take 2.5 GB; at its own size it takes 0.15 GB.
    """
    images = ReshapedImages(source, channels, size, pad)
    if sum(source.counts()) * channels * size * size > KEEP_BYTES:
        return images
    every = [images.read(index, torch.arange(count)) for index, count in enumerate(source.counts())]
    return InMemoryImages(every, source.origin)


def by_class(images: Tensor, labels: Tensor, class_names: Sequence[str], origin: str) -> InMemoryImages:
    """Sort uint8 images (n, C, H, W) by label (n,).

    Raises:
        DataError: images and labels differ in number, a label is out of range, or a class has no image.
    """
    if len(images) != len(labels):
        raise DataError(f"{origin} has {len(images)} images and {len(labels)} labels")
    labels = labels.long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
        raise DataError(
            f"{origin} has labels {int(labels.min())} to {int(labels.max())} for {len(class_names)} classes"
        )
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    if 0 in counts:
        raise DataError(f"class {class_names[counts.index(0)]!r} has no image in {origin}")
    order = torch.argsort(labels, stable=True)
    return InMemoryImages(torch.split(images[order], counts), origin)

"""Images held in memory in another size or with other channels, and how their files are opened."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from ld3m_plugin.data.transforms import pad_to, resize_square, with_channels
from ld3m_plugin.errors import DataError
from ld3m_plugin.images.images_by_class import ImagesByClass, InMemoryImages, by_class

__all__ = [
    "KEEP_BYTES",
    "LARGEST_FILE",
    "ImagesByClass",
    "InMemoryImages",
    "ReshapedImages",
    "by_class",
    "open_data",
    "reshaped",
]

#: Resized copies larger than this are made on use instead of being kept.
KEEP_BYTES = 512 * 2**20
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

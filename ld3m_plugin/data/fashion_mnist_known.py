"""What tells Fashion-MNIST from MNIST and its other relatives, whose four files have the same names.

The whole set is known by the digests of its files, unpacked: copies that were compressed again are the same set. A part is known
by the means of its classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import DataError

#: SHA-256 of the published files, unpacked (`zcat FILE | sha256sum`).
DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
#: Mean of each class, and standard deviation of an image's mean within it, of the 60,000 training images in [0, 1].
CLASS_MEANS = (0.3256, 0.2229, 0.3767, 0.2589, 0.3853, 0.1367, 0.3318, 0.1677, 0.3536, 0.3012)
CLASS_DEVIATIONS = (0.1134, 0.0570, 0.1280, 0.0839, 0.1036, 0.0621, 0.1297, 0.0503, 0.1128, 0.0718)
#: Mean of the training images of sets with the same file names, and what they show.
RELATIVES = {0.1307: "MNIST (digits)", 0.1918: "KMNIST (letters)"}
_NEAR = 0.01  # between means of two such sets

#: Fewer images than these tell nothing.
_FEWEST = 100
# A part may be chosen, not drawn at random; MNIST's digits are 0.17 away, labels in a random order 0.08.
_CHOSEN, _SIGMAS = 0.05, 3.0


def is_published(digests: Mapping[str, str]) -> bool:
    """Whether files with these SHA-256, by name and unpacked, are the published set."""
    return dict(digests) == DIGESTS


def check_is_fashion(images: InMemoryImages, folder: Path) -> None:
    """Check that images (n, 1, 28, 28) by class can be a part of Fashion-MNIST.

    Means of classes differ from those of the whole set, as a root mean square, by three standard errors and 0.05 at most.
    Fewer than 100 images are accepted.

    Raises:
        DataError: they cannot be; the message says what they are, if their mean tells.
    """
    counts = images.counts()
    if sum(counts) < _FEWEST:
        return
    means = [_mean(images.read(index, torch.arange(count))) for index, count in enumerate(counts)]
    distance = _root_mean_square(mean - known for mean, known in zip(means, CLASS_MEANS, strict=True))
    errors = (sigma / math.sqrt(count) for sigma, count in zip(CLASS_DEVIATIONS, counts, strict=True))
    most = _CHOSEN + _SIGMAS * _root_mean_square(errors)
    if distance > most:
        mean = sum(mean * count for mean, count in zip(means, counts, strict=True)) / sum(counts)
        relative = next((name for known, name in RELATIVES.items() if abs(mean - known) < _NEAR), None)
        raise DataError(
            f"{folder} is not Fashion-MNIST{f' but {relative}' if relative else ''}: its images have mean {mean:.4f} "
            f"(Fashion-MNIST: 0.2861), and means of classes differ by {distance:.3f} ({most:.3f} at most); files of several "
            "data sets have these names: give the root of Fashion-MNIST, or fashion-mnist:embedded"
        )


def _root_mean_square(values: Iterable[float]) -> float:
    squares = [value**2 for value in values]
    return math.sqrt(sum(squares) / len(squares))


def _mean(images: Tensor) -> float:
    """Mean of uint8 images in [0, 1], exact."""
    return int(images.sum(dtype=torch.int64)) / (255 * images.numel())

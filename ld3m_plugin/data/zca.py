"""ZCA whitening of a data set, fitted on all of its training images: the option `zca`.

As MTT and its successors have it (Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022):
kornia's `ZCAWhitening(eps=0.1, compute_inv=True)` of the normalised training images. Sums and eigenvectors are in float64 here;
the images are read in parts and never held at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ld3m_plugin.errors import DataError
from ld3m_plugin.images.whitening import Whitening
from ld3m_plugin.task import Task

#: Added to each variance.
EPS = 0.1
#: The largest images, as numbers: 64x64 in colour. A matrix of their square has 604 MB in float32.
LARGEST = 3 * 64 * 64
_READ_AT_ONCE = 1024


def whitened(task: Task) -> Task:
    """The task with its images whitened, training and test images by one map.

    Raises:
        DataError: the images are too large, or there is one alone.
    """
    numbers = task.channels * task.image_size**2
    if numbers > LARGEST:
        raise DataError(
            f"zca=true: images of {task.channels}x{task.image_size}x{task.image_size} have {numbers} numbers, and whitening "
            f"needs a matrix of that many by that many: at most {LARGEST} (3x64x64); give image_size=64 or less, or leave zca out"
        )
    if sum(task.train.counts()) < 2:
        raise DataError(f"zca=true: whitening needs at least two training images: add images ({task.train.origin})")
    return replace(task, whitening=fitted(replace(task, device=torch.device("cpu"), whitening=None)))


def fitted(task: Task) -> Whitening:
    """Fit the map to the training images of a task on the CPU: mean, and covariance with divisor n - 1.

    Images are read class by class in parts of one size, so that sums do not depend on free memory.
    """
    numbers, count = task.channels * task.image_size**2, sum(task.train.counts())
    mean = torch.zeros(numbers, dtype=torch.float64)
    for images in _parts(task):
        mean += images.sum(0)
    mean /= count
    covariance = torch.zeros(numbers, numbers, dtype=torch.float64)
    for images in _parts(task):
        centred = images - mean
        covariance.addmm_(centred.T, centred)
    variances, vectors = torch.linalg.eigh(covariance.div_(count - 1))
    # Rounding makes a variance of nothing slightly negative.
    matrix = (vectors * (variances.clamp_(min=0) + EPS).rsqrt()) @ vectors.T
    return Whitening(mean.float(), matrix.float())


def _parts(task: Task) -> Iterator[Tensor]:
    """Normalised training images as rows (n, D) of float64."""
    for class_index, count in enumerate(task.train.counts()):
        for which in torch.arange(count).split(_READ_AT_ONCE):
            if len(which):
                yield task.normalise(task.train.read(class_index, which)).flatten(1).double()

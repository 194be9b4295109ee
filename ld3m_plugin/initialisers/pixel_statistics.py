"""Initialisers that need the training images alone.

They are the baselines of the literature on coresets and prototypes: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient
Matching", ICLR 2021, section 4.1, compare with random real images and with k-centre and herding, which choose real images too.
Means and centres are computed on pixels, so the data set's mean and std do not change them; of a caller's normalised images, on
those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.contracts import Initialiser, Task
from ld3m_plugin.errors import DataError
from ld3m_plugin.initialisers.kmeans import kmeans

_READ_AT_ONCE = 256


class RealImages(Initialiser):
    """Distinct real images of each class, drawn at random."""

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        return task.real_images_of(labels, rng)

    def start(self) -> str:
        return "real images"


class ClassMeans(Initialiser):
    """The mean of all training images of a class. Several images of a class are the same picture; no seed changes it."""

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        def mean(k: int, count: int, _: torch.Generator) -> Tensor:
            total = torch.zeros(task.channels, task.image_size, task.image_size, dtype=torch.float64)
            for which in torch.arange(available(task, k, 1)).split(_READ_AT_ONCE):
                total += task.train.read(k, which).double().sum(0)  # exact: whole numbers below 2**53
            return task.normalise((total / task.train.counts()[k]).expand(count, -1, -1, -1))

        return task.by_class(labels, rng, mean)

    def start(self) -> str:
        return "class means"


class Centres(Initialiser):
    """Centres of k-means over all training images of a class, a cluster for each of its images. With one it is the class mean."""

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        def centres(k: int, count: int, stream: torch.Generator) -> Tensor:
            return task.normalise(kmeans(_pixels(task, k, count), count, stream)[0])

        return task.by_class(labels, rng, centres)

    def start(self) -> str:
        return "k-means centres"


class Medoids(Initialiser):
    """The real image nearest to each centre of `centres`: the one whose squared distances to its cluster have the least sum."""

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        def medoids(k: int, count: int, stream: torch.Generator) -> Tensor:
            pixels = _pixels(task, k, count)
            return task.normalise(pixels[nearest_members(pixels, *kmeans(pixels, count, stream))])

        return task.by_class(labels, rng, medoids)

    def start(self) -> str:
        return "medoids"


def nearest_members(points: Tensor, centres: Tensor, clusters: Tensor) -> Tensor:
    """The index of the point (n, ...) of each cluster that is nearest to its centre (count, ...): (count,), all different.

    A cluster without points takes the nearest of the points that are not taken.
    """
    one, other = centres.flatten(1).double(), points.flatten(1).double()
    distances = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    outside = clusters[None] != torch.arange(len(centres))[:, None]
    chosen = distances.masked_fill(outside, torch.inf).argmin(1)
    empty = outside.all(1)
    distances[:, chosen[~empty]] = torch.inf
    for index in empty.nonzero().flatten().tolist():
        chosen[index] = distances[index].argmin()
        distances[:, chosen[index]] = torch.inf
    return chosen


def _pixels(task: Task, k: int, count: int) -> Tensor:
    """All training images of a class (n, C, H, W), as they are held."""
    return task.train.read(k, torch.arange(available(task, k, count)))


def available(task: Task, k: int, count: int) -> int:
    """How many training images a class has; raises `DataError` if these are fewer than `count`."""
    available = task.train.counts()[k]
    if available < count:
        raise DataError(
            f"class {task.class_names[k]!r} has {available} images and {count} are asked for ({task.train.origin}): ask for "
            "fewer, or add images"
        )
    return available

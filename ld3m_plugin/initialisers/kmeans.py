"""k-means: Lloyd's algorithm from a k-means++ start.

Sources: Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 1982; Arthur and Vassilvitskii, "k-means++: The
Advantages of Careful Seeding", SODA 2007.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

_MOST_STEPS = 300


def kmeans(points: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cluster points, until no point changes its cluster or after 300 steps.

    Args:
        points: (n, ...), with n at least `count`; distances are Euclidean over all but the first dimension.
        count: number of clusters. With one, its centre is the mean.
        rng: draws the first centres, on the CPU.

    Returns:
        Centres (count, ...) as float64 on the CPU, each the mean of its cluster, and the cluster of each point (n,). A cluster
        that lost all its points keeps the centre it had.
    """
    from scipy.cluster.vq import kmeans2  # late: listing backends must not wait for it

    data = points.detach().cpu().double().flatten(1)
    centres, former = _spread(data, count, rng).numpy(), None
    for _ in range(_MOST_STEPS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a cluster without points
            moved, clusters = kmeans2(data.numpy(), centres, iter=1, minit="matrix")
        if former is not None and (clusters == former).all():
            break
        centres, former = moved, clusters
    return torch.from_numpy(centres).view(count, *points.shape[1:]), torch.from_numpy(former).long()


def _spread(data: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """First centres (count, F): points (n, F), each drawn with a weight of its squared distance to the nearest one before."""
    chosen = [int(torch.randint(len(data), (), generator=rng))]
    nearest = torch.full((len(data),), torch.inf, dtype=data.dtype)
    for _ in range(count - 1):
        nearest = nearest.minimum((data - data[chosen[-1]]).square().sum(1))
        # All points are chosen already, or equal to one that is: any will do.
        weights = nearest if nearest.sum() > 0 else torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(weights, 1, generator=rng)))
    return data[chosen]

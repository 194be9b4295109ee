"""Statistics of features: the Fréchet distance between two Gaussians, and distances between images of one class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Compute the squared Fréchet (2-Wasserstein) distance ‖μa − μb‖² + Tr(A + B − 2 (A^½ B A^½)^½) between two Gaussians.

    Dowson and Landau, The Fréchet distance between multivariate normal distributions (1982), equation 4; on features of
    images as in Heusel et al., GANs trained by a two time-scale update rule (NeurIPS 2017). Computed in float64 from
    eigenvalues of symmetric matrices, so covariances may have any rank.

    Args:
        mean_a, mean_b: (F,).
        cov_a, cov_b: (F, F), symmetric and positive semidefinite.

    Returns:
        At least 0, in squared units of the features.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> round(frechet_distance(zero, one.view(1, 1), 3 * one, 4 * one.view(1, 1)), 6)  # 3² + (1 − 2)²
    10.0
    """
    mean_a, cov_a, mean_b, cov_b = (tensor.detach().cpu().double() for tensor in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(_symmetric(cov_a))
    root = (vectors * _roots(values)) @ vectors.T
    cross = _roots(torch.linalg.eigvalsh(_symmetric(root @ cov_b @ root))).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))


def fit_gaussian(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute mean (F,) and unbiased covariance (F, F), in float64, of all rows of `features`, each (n, F); at least 2 rows."""
    count = sum(len(part) for part in features)
    mean = torch.stack([part.double().sum(0) for part in features]).sum(0) / count
    # Part by part, to avoid a float64 copy of all features.
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in features:
        centred = part.double() - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter / (count - 1)


def variance(features: Tensor) -> float:
    """Compute the trace of the unbiased covariance of `features` (n, F), n ≥ 2: half the mean squared distance of two rows.

    >>> variance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))  # one pair at distance 5
    12.5
    """
    return float(features.double().var(0).sum())


def nearest_distance(features: Tensor) -> float:
    """Compute the mean Euclidean distance from a row of `features` (n, F), n ≥ 2, to the nearest other row.

    It falls with n: compare only sets of equal size.

    >>> nearest_distance(torch.tensor([[0.0], [1.0], [5.0]]))  # (1 + 1 + 4) / 3
    2.0
    """
    # The faster way, by inner products, would give equal rows a distance.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return float(distances.fill_diagonal_(math.inf).min(1).values.double().mean())


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


def _roots(values: Tensor) -> Tensor:
    """Compute square roots of eigenvalues; rounding errors of zero (a deficient rank) count as zero."""
    noise = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    return torch.where(values > noise, values, 0).sqrt()

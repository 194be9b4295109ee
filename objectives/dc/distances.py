"""Distances between two gradients of a network, for several classes at once.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, equation 10 (layer-wise, one term per
output), and the published code: tensors of one dimension (biases, scales and shifts of norm layers) count in `mse` and `cos`,
but not in the layer-wise distance.

A gradient is a list of tensors (G, *shape), one for each parameter in the order of `module.parameters()`, for G classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

#: Keeps the cosine of a zero gradient finite; the published value.
_EPSILON = 1e-6


def layerwise_cosine(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Σ over parameters and their outputs of 1 − cos: (G,). The published name is `ours`.

    An output is a row of a linear layer (out, in), a filter (out, in·h·w) of a convolution, and the first dimension of a
    layer norm's (C, h, w).

    By hand: one class and a linear layer of two outputs; the first rows are parallel (0), the second ones orthogonal (1).

    >>> real = [torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])]
    >>> synthetic = [torch.tensor([[[6.0, 8.0], [5.0, 0.0]]])]
    >>> round(float(layerwise_cosine(real, synthetic)), 6)
    1.0
    """
    weights = ((r.flatten(2), s.flatten(2)) for r, s in zip(real, synthetic, strict=True) if r.ndim > 2)
    return sum(((1 - _cosine(r, s)).sum(1) for r, s in weights), start=_zeros(real))


def squared(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """Σ of squared differences over all parameters: (G,)."""
    pairs = zip(real, synthetic, strict=True)
    return sum(((r - s).square().flatten(1).sum(1) for r, s in pairs), start=_zeros(real))


def cosine(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """1 − cos of all parameters as one vector: (G,)."""
    one, other = (torch.cat([part.flatten(1) for part in gradient], 1) for gradient in (real, synthetic))
    return 1 - _cosine(one, other)


Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
DISTANCES: Mapping[str, Distance] = {"ours": layerwise_cosine, "mse": squared, "cos": cosine}


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """Cosines over the last dimension."""
    lengths = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    cosines: Tensor = (one * other).sum(-1) / (lengths + _EPSILON)
    return cosines


def _zeros(gradient: Sequence[Tensor]) -> Tensor:
    return gradient[0].new_zeros(len(gradient[0]))

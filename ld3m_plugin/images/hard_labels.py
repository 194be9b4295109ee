"""Class indices of labels, which may be probabilities."""

from __future__ import annotations

from torch import Tensor


def hard_labels(labels: Tensor) -> Tensor:
    """Class indices (N,): the labels, or the likeliest class of probabilities (N, K)."""
    return labels if labels.ndim == 1 else labels.argmax(1)

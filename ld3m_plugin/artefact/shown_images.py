"""Which images of a distilled set are shown where not all of them can be: of each class equally many, the first ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ld3m_plugin.images.hard_labels import hard_labels

#: Images that are kept of the start of a run, and that its report shows.
MOST_SHOWN = 100


def shown_indices(labels: Tensor, most: int) -> list[int]:
    """Choose at most `most` images, ordered by class; classes that do not fit are left out.

    >>> import torch
    >>> shown_indices(torch.tensor([0, 0, 0, 1, 1, 1]), 4)
    [0, 1, 3, 4]

    Args:
        labels: class indices (N,), or probabilities (N, K), of which the largest counts.
    """
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(hard_labels(labels).tolist()):
        of_class.setdefault(label, []).append(index)
    classes = sorted(of_class)[:most]
    each = max(1, most // max(1, len(classes)))
    return [index for label in classes for index in of_class[label][:each]]


def per_class(labels: Tensor, indices: Sequence[int]) -> dict[int, list[int]]:
    """The chosen images by class."""
    hard, found = hard_labels(labels), dict[int, list[int]]()
    for index in indices:
        found.setdefault(int(hard[index]), []).append(index)
    return found

"""What each trained network predicted for each test image, in a file beside the results.

`predictions.safetensors` in the folder of a distilled set holds, for each row of its final evaluation, `KIND/NETWORK` (networks,
test images): the predicted classes, a byte each up to 256 classes. `labels` (test images,) are the true ones, `groups` the groups
where the task has some. Test images come class by class; those that `test_per_class` chose are evenly spaced over a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation.table import Evaluation
from ld3m_plugin.storage import read_tensors, write_tensors

PREDICTIONS = "predictions.safetensors"
_LABELS, _GROUPS = "labels", "groups"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted classes of test images.

    Attributes:
        classes: by kind of training images and architecture, such as ("distilled", "ConvNet"): (networks, test images).
        labels: true classes, (test images,).
        groups: (test images,); None where they have none.
    """

    classes: dict[tuple[str, str], Tensor]
    labels: Tensor
    groups: Tensor | None = None

    def correct(self, images: str) -> dict[str, Tensor]:
        """Say by architecture which test images are classified correctly: bool (networks, test images).

        Args:
            images: kind of training images, such as "distilled".
        """
        return {network: found == self.labels for (kind, network), found in self.classes.items() if kind == images}

    def confusion(self, images: str, network: str) -> Tensor:
        """Count test images by true and predicted class, over all networks of an architecture: (K, K) int64."""
        found = self.classes[images, network]
        size = int(max(self.labels.max(), found.max())) + 1
        cells = self.labels.expand_as(found).flatten() * size + found.flatten()
        return cells.bincount(minlength=size * size).view(size, size)


def save_predictions(path: Path, evaluation: Evaluation) -> None:
    """Write the predictions of an evaluation.

    Raises:
        ValueError: it was read from a record, which has none.
    """
    if evaluation.test_labels is None:
        raise ValueError("an evaluation that was read from its record has no predictions")
    tensors = {f"{row.images}/{row.network}": row.predicted for row in evaluation.rows if row.predicted is not None}
    tensors[_LABELS] = evaluation.test_labels
    largest = max(int(classes.max()) for classes in tensors.values())
    small = {name: classes.to(torch.uint8 if largest < 256 else torch.int16) for name, classes in tensors.items()}
    write_tensors(path, small if evaluation.test_groups is None else {**small, _GROUPS: evaluation.test_groups})


def read_predictions(path: Path) -> Predictions:
    """Read the file that `save_predictions` wrote.

    Raises:
        ArtefactError: it is missing, damaged, or holds something else; the message names it.
    """
    tensors, _ = read_tensors(path, ArtefactError)
    labels, groups = tensors.pop(_LABELS, torch.empty(0)), tensors.pop(_GROUPS, None)
    whole = [tensor.dtype in (torch.uint8, torch.int16) for tensor in (labels, *tensors.values())]
    fits = labels.ndim == 1 and len(labels) and all(t.ndim == 2 and t.shape[1] == len(labels) for t in tensors.values())
    grouped = groups is None or (groups.dtype == torch.int64 and groups.shape == labels.shape)
    if not (all(whole) and fits and grouped and all("/" in name for name in tensors)):
        raise ArtefactError(f"{path} is damaged: its tensors are no predictions of the same test images")
    classes = {_key(name): tensor.long() for name, tensor in tensors.items()}
    return Predictions(classes, labels.long(), groups)


def _key(name: str) -> tuple[str, str]:
    images, _, network = name.rpartition("/")
    return images, network

"""Convert between a task's normalised images and the pictures in [-1, 1] of pre-trained models.

Synthetic and real images share one normaliser, with the task's whitening if it has one. The published LD3M code encodes
normalised images, and normalises renders with another data set's mean, which changes the contrast of the learned images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.generators.picture_options import Clamp


class PictureSpace:
    """Converts images (n, C, H, W) of a task to pictures (n, P, H, W) of a model with P channels, and back.

    Gray becomes colour by repeating the channel, colour becomes gray by the mean over channels.

    Args:
        clamp: for rendered pictures: `straight-through` clamps and passes the gradient on unchanged, `hard` clamps and stops the
            gradient of saturated pixels (published LD3M), `none` does not clamp (GLaD).
    """

    def __init__(self, task: Task, channels: int, clamp: Clamp = "straight-through") -> None:
        self._mean, self._std = (
            torch.tensor(values, device=task.device).view(1, -1, 1, 1) for values in (task.mean, task.std)
        )
        self._whitened, self._unwhitened = task.whitened, task.unwhitened
        self._task_channels, self._channels, self._clamp = task.channels, channels, clamp

    def pictures(self, images: Tensor) -> Tensor:
        """Convert normalised images (n, C, H, W) to pictures (n, P, H, W) in [-1, 1]."""
        return _with_channels(self._unwhitened(images) * self._std + self._mean, self._channels) * 2 - 1

    def images(self, pictures: Tensor) -> Tensor:
        """Convert pictures (n, P, H, W) to normalised images (n, C, H, W), differentiably."""
        return self._normalised(_with_channels((pictures + 1) / 2, self._task_channels))

    def clamped(self, images: Tensor) -> Tensor:
        """Clamp normalised images (n, C, H, W) of the task to the range of its pictures, as `images` does."""
        return self._normalised(self._unwhitened(images) * self._std + self._mean)

    def _normalised(self, unit: Tensor) -> Tensor:
        return self._whitened((self._in_range(unit) - self._mean) / self._std)

    def _in_range(self, unit: Tensor) -> Tensor:
        if self._clamp == "hard":
            return unit.clamp(0, 1)
        if self._clamp == "straight-through":
            return unit + (unit.clamp(0, 1) - unit).detach()
        return unit


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    return images.mean(1, keepdim=True).expand(-1, channels, -1, -1)

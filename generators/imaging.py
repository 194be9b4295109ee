"""Between a task's normalised images and the pictures in [-1, 1] that pre-trained models work on.

One normaliser for synthetic and real images: the published LD3M code fed the encoder normalised images, and normalised its
renders with another data set's mean, which changed the contrast of what was learned.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task

Clamp = Literal["straight-through", "hard", "none"]


class PictureSpace:
    """Converts images (n, C, H, W) of a task to pictures (n, P, H, W) of a model with P channels, and back.

    Gray images become colour by repeating the channel; pictures of a colour model become gray by the mean over channels, and
    those of a gray model become colour by repeating theirs.

    Args:
        clamp: how rendered pictures are kept in range: `straight-through` clamps and passes the gradient on unchanged, `hard`
            clamps and stops the gradient of saturated pixels (published LD3M), `none` leaves them (GLaD).
    """

    def __init__(self, task: Task, channels: int, clamp: Clamp = "straight-through") -> None:
        self._mean, self._std = (
            torch.tensor(values, device=task.device).view(1, -1, 1, 1) for values in (task.mean, task.std)
        )
        self._task_channels, self._channels, self._clamp = task.channels, channels, clamp

    def pictures(self, images: Tensor) -> Tensor:
        """Pictures (n, P, H, W) in [-1, 1] of normalised images (n, C, H, W)."""
        return _with_channels(images * self._std + self._mean, self._channels) * 2 - 1

    def images(self, pictures: Tensor) -> Tensor:
        """Normalised images (n, C, H, W) of pictures (n, P, H, W), differentiable."""
        unit = _with_channels((pictures + 1) / 2, self._task_channels)
        if self._clamp == "hard":
            unit = unit.clamp(0, 1)
        elif self._clamp == "straight-through":
            unit = unit + (unit.clamp(0, 1) - unit).detach()
        return (unit - self._mean) / self._std


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    return images.mean(1, keepdim=True).expand(-1, channels, -1, -1)

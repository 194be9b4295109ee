"""ZCA whitening: a linear map after which pixels have about unit variance and no correlation, and images still look like images.

Bell and Sejnowski, "The 'independent components' of natural scenes are edge filters", Vision Research 37 (1997). Networks that
see whitened images see them in training and in tests alike.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ld3m_plugin.devices.tf32 import tf32


class Whitening:
    """The map x -> (x - mean) @ matrix of flattened normalised images, and its inverse.

    Products are of whole float32 numbers, under autocast and with TF32 as well.

    Attributes:
        mean: (D,) float32 on the CPU, D = C * H * W.
        matrix: (D, D) float32 on the CPU, symmetric and invertible.
    """

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        self.mean, self.matrix = mean, matrix
        self._moved: dict[tuple[torch.device, bool], tuple[Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        return f"Whitening({len(self.mean)} numbers an image)"

    def __call__(self, images: Tensor) -> Tensor:
        """Whiten normalised images (n, C, H, W), differentiably."""
        mean, matrix = self._on(images.device, inverse=False)
        with torch.autocast(images.device.type, enabled=False), tf32("none", images.device):
            return ((images.flatten(1).float() - mean) @ matrix).view(images.shape)

    def undo(self, images: Tensor) -> Tensor:
        """Normalised images (n, C, H, W) of whitened ones, differentiably."""
        mean, inverse = self._on(images.device, inverse=True)
        with torch.autocast(images.device.type, enabled=False), tf32("none", images.device):
            return (images.flatten(1).float() @ inverse + mean).view(images.shape)

    @cached_property
    def _inverse(self) -> Tensor:
        inverse: Tensor = torch.linalg.inv(self.matrix.double())
        return inverse.float()

    def _on(self, device: torch.device, *, inverse: bool) -> tuple[Tensor, Tensor]:
        if (device, inverse) not in self._moved:
            with torch.inference_mode(False):  # tensors of inference mode would have no place in a later backward pass
                matrix = self._inverse if inverse else self.matrix
                self._moved[device, inverse] = self.mean.to(device), matrix.to(device)
        return self._moved[device, inverse]

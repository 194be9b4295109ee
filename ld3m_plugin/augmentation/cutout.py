"""Cutout as in DSA (Zhao & Bilen 2021): a square of zeros, which on normalised images is the mean colour."""

from __future__ import annotations

from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from ld3m_plugin.augmentation.parameters import ParameterGenerator, Parameters, fitted, share


class CutoutGenerator(ParameterGenerator):
    """Centres of the squares in pixels, uniform over the image; an even square may also be centred at H and W.

    Args:
        ratio: side of the square as a share of the image's.
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        return {
            "centre_rows": torch.randint(height + 1 - share(height, self.ratio) % 2, (count,)),
            "centre_cols": torch.randint(width + 1 - share(width, self.ratio) % 2, (count,)),
        }

    def extra_repr(self) -> str:
        return f"ratio={self.ratio:g}"


class DSACutout(IntensityAugmentationBase2D):
    """Sets a square to zero; what of it lies outside the image is cut off.

    For a side s the rows `centre_rows` - s//2 ... `centre_rows` - s//2 + s - 1 are covered, columns likewise.

    Args:
        ratio: side of the square as a share of the image's, rounded half up. Published: 0.5.
        p, same_on_batch, keepdim: as in every kornia augmentation.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self, ratio: float = 0.5, *, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self.ratio = ratio
        self._param_generator = CutoutGenerator(ratio)

    def apply_transform(
        self,
        input: Tensor,
        params: Parameters,
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """`input` (B, C, H, W) under `params` of B rows or one; kornia's name for the operation itself."""
        rows = self._covered(fitted(input, params["centre_rows"]), input.shape[-2])
        cols = self._covered(fitted(input, params["centre_cols"]), input.shape[-1])
        hole = rows[:, None, :, None] & cols[:, None, None, :]
        # a product, since masked_fill is slower on the CPU, forward and backward
        return input * (~hole).to(input.dtype)

    def apply_transform_mask(
        self, input: Tensor, params: Parameters, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """A segmentation mask loses the same square."""
        return self.apply_transform(input, params, flags, transform)

    def _covered(self, centres: Tensor, size: int) -> Tensor:
        side = share(size, self.ratio)
        first = centres[:, None] - side // 2
        index = torch.arange(size, device=centres.device)
        return (index >= first) & (index < first + side)

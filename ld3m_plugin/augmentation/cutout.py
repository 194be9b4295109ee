"""Cutout as in DSA (Zhao & Bilen 2021): a square of zeros, which on normalised images is the mean colour."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ld3m_plugin.augmentation.parameters import (
    KorniaOptions,
    Operation,
    ParameterGenerator,
    Parameters,
    fitted,
    share,
)


class CutoutGenerator(ParameterGenerator):
    """Centres of squares of `ratio` times the image's side, uniform over the pixels; an even square may be centred at H and W."""

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        sizes = {"centre_rows": height, "centre_cols": width}
        ratio = self.settings["ratio"]
        return {name: torch.randint(size + 1 - share(size, ratio) % 2, (count,)) for name, size in sizes.items()}


class DSACutout(Operation):
    """Sets a square of each of the images (B, C, H, W) to zero; its part outside the image is cut off.

    A square of side s covers rows `centre_rows` - s//2 to `centre_rows` - s//2 + s - 1, and columns likewise.

    Args:
        ratio: side of the square as a share of the image's, rounded half up. Published: 0.5.
        kornia: see `Operation`.
    """

    def __init__(self, ratio: float = 0.5, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(CutoutGenerator(ratio=ratio), **kornia)
        self.ratio = ratio

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        rows = self._covered(fitted(images, params["centre_rows"]), images.shape[-2])
        cols = self._covered(fitted(images, params["centre_cols"]), images.shape[-1])
        hole = rows[:, None, :, None] & cols[:, None, None, :]
        # a product, since masked_fill is slower on the CPU, forward and backward
        return images * (~hole).to(images.dtype)

    def _covered(self, centres: Tensor, size: int) -> Tensor:
        side = share(size, self.ratio)
        first = centres[:, None] - side // 2
        index = torch.arange(size, device=centres.device)
        return (index >= first) & (index < first + side)

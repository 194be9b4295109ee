"""The geometric operations of DSA (Zhao & Bilen 2021): crop, flip, scale and rotate.

All keep the image's size and fill with zeros, which on normalised images is the mean colour.
"""

from __future__ import annotations

import math
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ld3m_plugin.augmentation.parameters import (
    KorniaOptions,
    Operation,
    ParameterGenerator,
    Parameters,
    UniformGenerator,
    fitted,
    share,
)


class CropGenerator(ParameterGenerator):
    """Shifts in whole pixels, uniform from -s to s where s is `ratio` of the side, rounded half up."""

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        rows, cols = (share(size, self.settings["ratio"]) for size in (height, width))
        return {
            "shift_rows": torch.randint(-rows, rows + 1, (count,)),
            "shift_cols": torch.randint(-cols, cols + 1, (count,)),
        }


class FlipGenerator(ParameterGenerator):
    """`flipped`: True with the given `probability`."""

    def draw(self, count: int, _height: int, _width: int, /) -> dict[str, Tensor]:
        return {"flipped": torch.rand(count, dtype=torch.float32) < self.settings["probability"]}


class DSACrop(Operation):
    """Shifts images (B, C, H, W) by whole pixels: out[r, c] = in[r + shift_rows, c + shift_cols], zero outside.

    The published code pads and crops, which is the same.

    Args:
        ratio: largest shift as a share of the image's side, rounded half up. Published: 0.125.
        kornia: see `Operation`.
    """

    def __init__(self, ratio: float = 0.125, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(CropGenerator(ratio=ratio), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        rows, cols = params["shift_rows"], params["shift_cols"]
        if rows.shape == cols.shape == (1,):
            # one shift for all is a plain slice, cheaper than an index
            down, right = int(rows), int(cols)
            return F.pad(images, (-right, right, -down, down))
        return _gathered(images, fitted(images, rows), fitted(images, cols))


class DSAFlip(Operation):
    """Mirrors the columns of those of the images (B, C, H, W) whose `flipped` is 1.

    Args:
        probability: of `flipped`. Published: 0.5.
        kornia: see `Operation`.
    """

    def __init__(self, probability: float = 0.5, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(FlipGenerator(probability=probability), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        flipped = fitted(images, params["flipped"]).bool().view(-1, 1, 1, 1)
        return torch.where(flipped, images.flip(-1), images)


class DSAScale(Operation):
    """Samples images (B, C, H, W) at `scale_x`, `scale_y` times the distance from its centre; below 1 enlarges.

    Bilinear with theta = diag(scale_x, scale_y) and corners aligned.

    Args:
        ratio: both factors are uniform in [1/ratio, ratio], independently. Published: 1.2.
        kornia: see `Operation`.
    """

    def __init__(self, ratio: float = 1.2, **kornia: Unpack[KorniaOptions]) -> None:
        bounds = (1 / ratio, ratio)
        super().__init__(UniformGenerator(scale_x=bounds, scale_y=bounds), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        scale_x, scale_y = (_exact(images, params[name]) for name in ("scale_x", "scale_y"))
        return _sampled(images, torch.diag_embed(torch.stack((scale_x, scale_y), dim=-1)))


class DSARotate(Operation):
    """Samples images (B, C, H, W) with theta = [[cos, -sin], [sin, cos]] of `radians`, bilinear, corners aligned.

    Args:
        degrees: the angle is uniform in [-degrees, degrees]; the drawn `radians` are in radians. Published: 15.
        kornia: see `Operation`.
    """

    def __init__(self, degrees: float = 15.0, **kornia: Unpack[KorniaOptions]) -> None:
        largest = math.radians(degrees)
        super().__init__(UniformGenerator(radians=(-largest, largest)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        radians = _exact(images, params["radians"])
        cos, sin = radians.cos(), radians.sin()
        return _sampled(images, torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2))


def _gathered(images: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    # A frame of zeros one pixel wide stands for everything outside: indices that leave the image are clamped to it.
    batch, channels, height, width = images.shape
    device = images.device
    row = (torch.arange(1, height + 1, device=device) + rows[:, None]).clamp(0, height + 1)
    col = (torch.arange(1, width + 1, device=device) + cols[:, None]).clamp(0, width + 1)
    index = (row[:, :, None] * (width + 2) + col[:, None, :]).view(-1, 1, height * width)
    framed = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return framed.gather(2, index.expand(batch, channels, -1)).view_as(images)


def _exact(images: Tensor, value: Tensor) -> Tensor:
    """`value` as (1 or B,) in float32, or in float64 for images in float64: half precision misses whole pixels."""
    return fitted(images, value).to(torch.promote_types(images.dtype, torch.float32))


def _sampled(images: Tensor, theta: Tensor) -> Tensor:
    """Images sampled at theta (1 or B, 2, 2) times their coordinates, which span -1 to 1 from corner to corner."""
    batch, channels, height, width = images.shape
    if batch == 0:  # torch makes no grid for it
        return images
    full = F.pad(theta, (0, 1))
    # One row of theta makes a single grid, which all images share. Never in half precision: at the border of 128 pixels,
    # bf16 coordinates are a quarter of a pixel apart (2**-8 of a coordinate that spans 64 pixels).
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(full, [len(full), channels, height, width], align_corners=True)
    # torch wants images and grid in one dtype
    sampled = F.grid_sample(
        images.to(grid.dtype),
        grid.expand(batch, -1, -1, -1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=True,
    )
    return sampled.to(images.dtype)

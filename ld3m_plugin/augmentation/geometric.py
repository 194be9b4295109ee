"""The geometric operations of DSA (Zhao & Bilen 2021): crop, flip, scale and rotate.

All keep the image's size and fill with zeros, which on normalised images is the mean colour. `transform_matrix` maps
pixels (x, y) of the input to pixels of the output, as everywhere in kornia, so that masks, boxes and keypoints follow
the images.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from kornia.augmentation import GeometricAugmentationBase2D
from kornia.constants import Resample
from kornia.geometry.transform import warp_affine
from torch import Tensor

from ld3m_plugin.augmentation.parameters import (
    ParameterGenerator,
    Parameters,
    UniformGenerator,
    broadcast,
    fitted,
    share,
)


class CropGenerator(ParameterGenerator):
    """Shifts in whole pixels, uniform from -s to s where s is `ratio` of the side, rounded half up."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        rows, cols = share(height, self.ratio), share(width, self.ratio)
        return {
            "shift_rows": torch.randint(-rows, rows + 1, (count,)),
            "shift_cols": torch.randint(-cols, cols + 1, (count,)),
        }

    def extra_repr(self) -> str:
        return f"ratio={self.ratio:g}"


class FlipGenerator(ParameterGenerator):
    """`flipped`: whether an image is mirrored, 1 with the given probability, else 0."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def draw(self, count: int, _height: int, _width: int, /) -> dict[str, Tensor]:
        return {"flipped": torch.rand(count, dtype=torch.float32) < self.probability}

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}"


class _Geometric(GeometricAugmentationBase2D):
    def __init__(self, generator: ParameterGenerator, p: float, same_on_batch: bool, keepdim: bool) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = generator
        # kornia replaces this by nearest neighbours for masks
        self.flags = {"resample": Resample.BILINEAR}

    def apply_transform(
        self,
        input: Tensor,
        params: Parameters,
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """`input` (B, C, H, W) under `params` of B rows or one; kornia's name for the operation itself."""
        return self.augment(input, params, flags["resample"].name.lower())

    def compute_transformation(
        self,
        input: Tensor,
        params: Parameters,
        flags: dict[str, Any],
    ) -> Tensor:
        """The matrices (B, 3, 3) from input pixels to output pixels, for kornia's other kinds of data."""
        return self.matrix(input, params)

    def augment(self, images: Tensor, params: Parameters, mode: str, /) -> Tensor:
        raise NotImplementedError

    def matrix(self, images: Tensor, params: Parameters) -> Tensor:
        raise NotImplementedError

    def inverse_transform(
        self, input: Tensor, flags: dict[str, Any], transform: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Images moved back by `transform`, the inverse of `transform_matrix`; what had left the image is zero."""
        if transform is None or size is None:
            raise ValueError(f"{type(self).__name__} needs the matrix and the size of the forward call to be inverted")
        matrix = transform[:, :2].to(input.device, input.dtype)
        mode = flags["resample"].name.lower()
        return warp_affine(input, matrix, size, mode=mode, padding_mode="zeros", align_corners=True)


class DSACrop(_Geometric):
    """Shifts the image by whole pixels: out[r, c] = in[r + shift_rows, c + shift_cols], zero outside.

    The published code pads and crops, which is this.

    Args:
        ratio: largest shift as a share of the image's side, rounded half up. Published: 0.125.
        p, same_on_batch, keepdim: as in every kornia augmentation.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self, ratio: float = 0.125, *, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        super().__init__(CropGenerator(ratio), p, same_on_batch, keepdim)

    def matrix(self, images: Tensor, params: Parameters) -> Tensor:
        matrix = _identity(images)
        matrix[:, 0, 2] = -fitted(images, params["shift_cols"]).to(images.dtype)
        matrix[:, 1, 2] = -fitted(images, params["shift_rows"]).to(images.dtype)
        return matrix

    def augment(self, images: Tensor, params: Parameters, _mode: str, /) -> Tensor:
        rows, cols = params["shift_rows"], params["shift_cols"]
        if rows.shape == cols.shape == (1,):
            # one shift for all is a plain slice, cheaper than an index
            down, right = int(rows), int(cols)
            return F.pad(images, (-right, right, -down, down))
        return _gathered(images, fitted(images, rows), fitted(images, cols))


class DSAFlip(_Geometric):
    """Mirrors the columns of the images whose `flipped` is 1.

    Args:
        probability: of `flipped`. Published: 0.5.
        p, same_on_batch, keepdim: as in every kornia augmentation.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self, probability: float = 0.5, *, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        super().__init__(FlipGenerator(probability), p, same_on_batch, keepdim)

    def matrix(self, images: Tensor, params: Parameters) -> Tensor:
        matrix = _identity(images)
        flipped = fitted(images, params["flipped"]).to(images.dtype)
        matrix[:, 0, 0] = 1 - 2 * flipped
        matrix[:, 0, 2] = (images.shape[-1] - 1) * flipped
        return matrix

    def augment(self, images: Tensor, params: Parameters, _mode: str, /) -> Tensor:
        flipped = fitted(images, params["flipped"]).bool().view(-1, 1, 1, 1)
        return torch.where(flipped, images.flip(-1), images)


class _Sampled(_Geometric):
    def augment(self, images: Tensor, params: Parameters, mode: str, /) -> Tensor:
        return _sampled(images, self.theta(images, params), mode)

    def matrix(self, images: Tensor, params: Parameters) -> Tensor:
        return _pixel_matrix(images, self.theta(images, params))

    def theta(self, images: Tensor, params: Parameters) -> Tensor:
        raise NotImplementedError


class DSAScale(_Sampled):
    """Samples the image at `scale_x`, `scale_y` times the distance from its centre; below 1 enlarges.

    Bilinear with theta = diag(scale_x, scale_y) and corners aligned.

    Args:
        ratio: both factors are uniform in [1/ratio, ratio], independently. Published: 1.2.
        p, same_on_batch, keepdim: as in every kornia augmentation.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self, ratio: float = 1.2, *, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        bounds = (1 / ratio, ratio)
        super().__init__(UniformGenerator(scale_x=bounds, scale_y=bounds), p, same_on_batch, keepdim)

    def theta(self, images: Tensor, params: Parameters) -> Tensor:
        scale_x, scale_y = (broadcast(images, params[name]).view(-1) for name in ("scale_x", "scale_y"))
        return torch.diag_embed(torch.stack((scale_x, scale_y), dim=-1))


class DSARotate(_Sampled):
    """Samples the image with theta = [[cos, -sin], [sin, cos]] of `radians`, bilinear, corners aligned.

    Args:
        degrees: the angle is uniform in [-degrees, degrees]; the drawn `radians` are in radians. Published: 15.
        p, same_on_batch, keepdim: as in every kornia augmentation.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self, degrees: float = 15.0, *, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        largest = math.radians(degrees)
        super().__init__(UniformGenerator(radians=(-largest, largest)), p, same_on_batch, keepdim)

    def theta(self, images: Tensor, params: Parameters) -> Tensor:
        radians = broadcast(images, params["radians"]).view(-1)
        cos, sin = radians.cos(), radians.sin()
        return torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)


def _gathered(images: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    # A frame of zeros one pixel wide stands for everything outside: indices that leave the image are clamped to it.
    batch, channels, height, width = images.shape
    device = images.device
    row = (torch.arange(1, height + 1, device=device) + rows[:, None]).clamp(0, height + 1)
    col = (torch.arange(1, width + 1, device=device) + cols[:, None]).clamp(0, width + 1)
    index = (row[:, :, None] * (width + 2) + col[:, None, :]).view(-1, 1, height * width)
    framed = F.pad(images, (1, 1, 1, 1)).flatten(2)
    return framed.gather(2, index.expand(batch, channels, -1)).view_as(images)


def _sampled(images: Tensor, theta: Tensor, mode: str) -> Tensor:
    batch, channels, height, width = images.shape
    full = F.pad(theta, (0, 1))
    # of one row of theta a single grid is built; all images read it. Never in half precision: the numbers of bf16 are a
    # quarter of a pixel apart at the border of 128 pixels (2**-8 of a coordinate that spans 64 pixels)
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(full, [len(full), channels, height, width], align_corners=True)
    return F.grid_sample(images, grid.expand(batch, -1, -1, -1), mode=mode, padding_mode="zeros", align_corners=True)


def _identity(images: Tensor) -> Tensor:
    return torch.eye(3, device=images.device, dtype=images.dtype).repeat(images.shape[0], 1, 1)


def _pixel_matrix(images: Tensor, theta: Tensor) -> Tensor:
    # theta maps output to input in coordinates from -1 to 1; a pixel is half * (coordinate + 1), half = (size - 1) / 2
    height, width = images.shape[-2:]
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device, dtype=images.dtype)
    linear = torch.linalg.inv(theta) * half[:, None] / half
    matrix = _identity(images)
    matrix[:, :2, :2] = linear
    matrix[:, :2, 2] = half - linear @ half
    return matrix

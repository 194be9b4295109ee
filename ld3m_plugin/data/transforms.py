"""uint8 images to another size or number of channels.

Everything stays uint8 until `Task.normalise`: geometry first, normalisation last, so that no filter ever mixes
normalised values with a padding of zeros, and stored images can be written as PNG without loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: ITU-R BT.601 luma in 16-bit fixed point, the weights behind Pillow's mode "L" (they sum to 65536).
LUMA_WEIGHTS = (19595, 38470, 7471)


def to_grayscale(images: Tensor) -> Tensor:
    """Luma (n, 1, H, W) of uint8 colour images (n, 3, H, W), equal to Pillow's `convert("L")` bit for bit."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=torch.int32).view(1, 3, 1, 1)
    luma = (images.to(torch.int32) * weights).sum(1, keepdim=True) + 0x8000
    return (luma >> 16).to(torch.uint8)


def to_colour(images: Tensor) -> Tensor:
    """Three equal channels (n, 3, H, W) of grayscale images (n, 1, H, W)."""
    return images.expand(-1, 3, -1, -1).contiguous()


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images (n, C, H, W) with `channels` 1 or 3; unchanged if they have them already."""
    if images.shape[1] == channels:
        return images
    return to_grayscale(images) if channels == 1 else to_colour(images)


def pad_to(images: Tensor, size: int) -> Tensor:
    """Images (n, C, h, w) in the middle of a black square (n, C, size, size)."""
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))


def resize_square(images: Tensor, size: int) -> Tensor:
    """Square uint8 images (n, C, s, s) as (n, C, size, size): bilinear with antialiasing, rounded back to uint8."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

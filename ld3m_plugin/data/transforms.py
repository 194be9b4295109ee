"""Change the size or the number of channels of uint8 images.

Channels come first and are RGB, or one grey channel. Images stay uint8 until `Task.normalise`: geometry first,
normalisation last, so that no filter mixes normalised values with padding zeros, and PNG stores images without loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: ITU-R BT.601 luma in 16-bit fixed point, the weights behind Pillow's mode "L" (they sum to 65536).
LUMA_WEIGHTS = (19595, 38470, 7471)


def to_grayscale(images: Tensor) -> Tensor:
    """Luma (n, 1, H, W) of uint8 RGB images (n, 3, H, W), equal to Pillow's `convert("L")` bit for bit."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=torch.int32).view(1, 3, 1, 1)
    luma = (images.to(torch.int32) * weights).sum(1, keepdim=True) + 0x8000
    return (luma >> 16).to(torch.uint8)


def to_colour(images: Tensor) -> Tensor:
    """Grayscale images (n, 1, H, W) repeated to three equal channels (n, 3, H, W)."""
    return images.expand(-1, 3, -1, -1).contiguous()


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images (n, C, H, W) converted to `channels`, 1 or 3; the same tensor if they already have that many."""
    if images.shape[1] == channels:
        return images
    return to_grayscale(images) if channels == 1 else to_colour(images)


def pad_to(images: Tensor, size: int) -> Tensor:
    """Images (n, C, h, w) centred in a black square (n, C, size, size)."""
    height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(images, (left, size - width - left, top, size - height - top))


def resize_square(images: Tensor, size: int) -> Tensor:
    """Square uint8 images (n, C, s, s) as (n, C, size, size): bilinear with antialiasing, rounded back to uint8."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

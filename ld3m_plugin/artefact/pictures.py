"""Write images as PNG files, one by one or as a grid."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ld3m_plugin.storage import naming

_TILE = 96
_GAP = 4


def save_png(picture: Tensor, path: Path) -> None:
    """Write one picture (C, H, W) in [0, 1], pixel by pixel."""
    _write(to_pil(picture), path)


def png(picture: Tensor) -> bytes:
    """One picture (C, H, W) in [0, 1] as the content of a PNG file."""
    return _encoded(to_pil(picture))


def save_grid(pictures: Tensor, path: Path, columns: int) -> None:
    """Write a grid of pictures (N, C, H, W) in [0, 1], see `grid`."""
    _write(to_pil(grid(pictures, columns)), path)


def grid(pictures: Tensor, columns: int) -> Tensor:
    """One picture (C, H, W) of pictures (N, C, h, w) in [0, 1], row by row, small ones enlarged without smoothing."""
    factor = max(1, round(_TILE / pictures.shape[-1]))
    large = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    count, channels, height, width = large.shape
    rows = -(-count // columns)
    sheet = torch.ones(channels, rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP)
    for index, picture in enumerate(large):
        top = _GAP + index // columns * (height + _GAP)
        left = _GAP + index % columns * (width + _GAP)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet


def _write(picture: Image.Image, path: Path) -> None:
    # In memory first: of a full disk, Pillow's encoders say neither the reason nor the file.
    content = _encoded(picture)
    with naming(path):
        path.write_bytes(content)


def _encoded(picture: Image.Image) -> bytes:
    content = BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def to_pil(picture: Tensor) -> Image.Image:
    """One picture (C, H, W) in [0, 1] as one of Pillow, of 8 bits."""
    array = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)

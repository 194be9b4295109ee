"""The pictures of the data set `emoji`: a sheet of square tiles for each style, stored without loss.

A sheet is a square of k·k tiles, row by row, where k is the smallest number with room for all. The package has tiles of 64
pixels; `scripts/make_embedded_emoji.py --size 128` makes larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.decode import Form, read_header, read_image
from ld3m_plugin.errors import DataError, InvalidOptionError


def tiles_a_side(count: int) -> int:
    """Tiles in a row of a sheet of `count` pictures.

    >>> tiles_a_side(9), tiles_a_side(10)
    (3, 4)
    """
    return math.isqrt(count - 1) + 1


def read_tiles(path: Path, count: int, tiles: Sequence[int], size: int) -> Tensor:
    """Read pictures of a sheet as uint8 (n, 3, size, size).

    Args:
        path: the sheet.
        count: how many pictures it has.
        tiles: which ones.
        size: height and width of the result; the tiles' own, or that divided by a whole number: see `reduced`.

    Raises:
        UnreadableImageError: the sheet is missing or damaged.
        DataError: it is no square of that many tiles.
        InvalidOptionError: its tiles are smaller than `size`, or no multiple of it.
    """
    width, height = read_header(path).size
    side = tiles_a_side(count)
    if width != height or width % side:
        raise DataError(f"{path} has {width}x{height} pixels, no square of {side}x{side} pictures: make it again")
    own = width // side
    if own % size:
        raise InvalidOptionError(
            f"data set 'emoji': size = {size}: the pictures in {path} have {own} pixels; make larger ones with "
            f"scripts/make_embedded_emoji.py --size {size} --out FOLDER, and give root=FOLDER"
        )
    sheet = read_image(path, Form(width, 3)).view(3, side, own, side, own)
    which = torch.tensor(tiles)
    # (n, 3, own, own): advanced indices with a slice between them come first.
    return reduced(sheet[:, which // side, :, which % side], size)


def reduced(images: Tensor, size: int) -> Tensor:
    """Square uint8 images (n, C, s, s), s a multiple of `size`, as (n, C, size, size): means of blocks of pixels, exact.

    A pixel is the mean of the (s/size)² pixels below it, rounded to the nearest whole number, halves upwards.
    """
    factor = images.shape[-1] // size
    if factor == 1:
        return images
    n, channels = images.shape[:2]
    blocks = images.view(n, channels, size, factor, size, factor).to(torch.int32)
    return ((blocks.sum((3, 5)) + factor**2 // 2) // factor**2).to(torch.uint8)

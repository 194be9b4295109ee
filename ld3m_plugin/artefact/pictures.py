"""Write images as PNG files, one by one or as a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ld3m_plugin.artefact.captions import LINE, drawable, fitted, font, text_width
from ld3m_plugin.storage import naming

_TILE = 96
_GAP = 4
_MOST_BESIDE = 180  # pixels of a row's name


def save_png(picture: Tensor, path: Path) -> None:
    """Write one picture (C, H, W) in [0, 1], pixel by pixel."""
    _write(to_pil(picture), path)


def png(picture: Tensor) -> bytes:
    """One picture (C, H, W) in [0, 1] as the content of a PNG file."""
    return _encoded(to_pil(picture))


@dataclass(frozen=True)
class Names:
    """Names in a grid: of its rows (beside them), of its columns (above them), or of each picture (below it)."""

    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    pictures: Sequence[str] = ()


def save_grid(pictures: Tensor, path: Path, columns: int, names: Names | None = None) -> None:
    """Write `grid` of pictures (N, C, H, W)."""
    _write(grid(pictures, columns, names), path)


def save_class_grid(pictures: Tensor, classes: Tensor, class_names: Sequence[str], path: Path) -> None:
    """Write `class_grid` of pictures (N, C, H, W)."""
    _write(class_grid(pictures, classes, class_names), path)


def grid(pictures: Tensor, columns: int, names: Names | None = None) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] as one, row by row, small ones enlarged without smoothing."""
    factor = max(1, round(_TILE / pictures.shape[-1]))
    large = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return _sheet([to_pil(picture) for picture in large], columns, names or Names())


def class_grid(pictures: Tensor, classes: Tensor, class_names: Sequence[str]) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] with the names of their classes (N,) as one: a row for each class, in label order.

    With one picture a class, a compact block takes the place of one tall column.
    """
    order, counts = classes.argsort(stable=True), classes.bincount()
    present = counts.nonzero().squeeze(1).tolist()
    columns = int(counts.max())
    if columns == 1:
        named = Names(pictures=[class_names[k] for k in present])
        return grid(pictures[order], max(1, round(len(order) ** 0.5 * 1.5)), named)
    blank = torch.ones_like(pictures[:1])
    rows = [torch.cat([pictures[classes == k], blank.expand(columns - int(counts[k]), -1, -1, -1)]) for k in present]
    return grid(torch.cat(rows), columns, Names(rows=[class_names[k] for k in present]))


def _sheet(tiles: Sequence[Image.Image], columns: int, names: Names) -> Image.Image:
    (width, height), count = tiles[0].size, -(-len(tiles) // columns)
    beside = [fitted(drawable(name, f"row {i + 1}"), _MOST_BESIDE) for i, name in enumerate(names.rows)]
    left = _GAP + (max(map(text_width, beside)) + 2 * _GAP if beside else 0)
    top = _GAP + (LINE if names.columns else 0)
    step = height + _GAP + (LINE if names.pictures else 0)
    sheet = Image.new(tiles[0].mode, (left + columns * (width + _GAP), top + count * step), "white")
    draw = ImageDraw.Draw(sheet)
    draw.fontmode = "L"

    def write(text: str, x: int, y: int, anchor: str) -> None:
        draw.text((x, y), text, fill="black", font=font(), anchor=anchor)

    for index, tile in enumerate(tiles):
        x, y = left + index % columns * (width + _GAP), top + index // columns * step
        sheet.paste(tile, (x, y))
        if index < len(names.pictures):
            name = drawable(names.pictures[index], f"class {index}")
            write(fitted(name, width + _GAP), x, y + height + 1, "la")
    for index, name in enumerate(names.columns[:columns]):
        shown = fitted(drawable(name, f"class {index}"), width)
        write(shown, left + index * (width + _GAP), _GAP, "la")
    for index, name in enumerate(beside[:count]):
        write(name, left - 2 * _GAP, top + index * step + height // 2, "rm")
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

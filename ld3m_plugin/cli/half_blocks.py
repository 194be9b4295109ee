"""Pictures in a terminal: a half block shows two pixels, one above the other; without colours, five shades of gray."""

from __future__ import annotations

from collections.abc import Sequence

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text
from torch import Tensor
from torch.nn.functional import interpolate

_SHADES = " ░▒▓█"
_BETWEEN = "  "


def lines_of_pictures(pictures: Tensor, names: Sequence[str], console: Console, side: int = 24) -> list[Text]:
    """Pictures (N, C, H, W) in [0, 1] side by side, as many as fit in a line of the console, each with its name below.

    Args:
        side: width of a picture in columns, an even number.
    """
    each = max(1, (console.width + len(_BETWEEN)) // (side + len(_BETWEEN)))
    small = interpolate(pictures.float(), (side, side), mode="area").clamp(0, 1).expand(-1, 3, -1, -1)
    small = small.mul(255).round().int().permute(0, 2, 3, 1)
    lines: list[Text] = []
    for first in range(0, len(small), each):
        some = small[first : first + each].tolist()
        for row in range(0, side, 2):
            parts = [_pixels(picture[row], picture[row + 1], console.color_system is not None) for picture in some]
            lines.append(Text(_BETWEEN).join(parts))
        below = [name[:side].ljust(side) for name in names[first : first + each]]
        lines.append(Text(_BETWEEN.join(below).rstrip()))
    return lines


def _pixels(upper: Sequence[Sequence[int]], lower: Sequence[Sequence[int]], colours: bool) -> Text:
    """One line of text for two lines of pixels (side, 3) from 0 to 255."""
    if not colours:
        grays = [sum(a) + sum(b) for a, b in zip(upper, lower, strict=True)]
        return Text("".join(_SHADES[round(gray * (len(_SHADES) - 1) / (6 * 255))] for gray in grays))
    text = Text()
    for a, b in zip(upper, lower, strict=True):
        text.append("▀", Style(color=Color.from_rgb(*a), bgcolor=Color.from_rgb(*b)))
    return text

"""Draw SVG documents as small RGB pictures."""

from __future__ import annotations

import io

import numpy as np
import resvg_py
from PIL import Image

#: Side of the drawing before it is reduced: four times the pictures in the package, twice the larger form.
DRAWN = 256


def draw(job: tuple[str, int]) -> np.ndarray:
    """An SVG on white as uint8 (size, size, 3): drawn at 256 pixels, its pixels averaged."""
    svg, size = job
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN, skip_system_fonts=True))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    side = max(picture.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(canvas.convert("RGB").resize((size, size), Image.Resampling.BOX))

"""Options of the pixel generator, without torch."""

from __future__ import annotations

from pydantic import Field

from ld3m_plugin.generators.picture_options import Clamp
from ld3m_plugin.initialisers.start_options import StartOptions


class PixelOptions(StartOptions):
    """Options of the pixel generator."""

    added = StartOptions.added | {"clamp"}

    init: str = Field(
        "real",
        description="first pixels: `real`, distinct real images of the class, another initialiser (`ld3m plugins` lists them), "
        "or `noise`, Gaussian of unit variance (normalised pixels)",
    )
    clamp: Clamp = Field(
        "none",
        description="pixels of the images: `none` lets them leave the range [0, 1] (DC, DSA, DM, MTT, GLaD as published); "
        "`straight-through` clamps and passes the gradient on; `hard` clamps and stops the gradient of saturated pixels",
    )

    def learning_rates(self) -> dict[str, float]:
        return {"pixels": 0.05}

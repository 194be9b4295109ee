"""Differentiable augmentation: the operations of DSA as Kornia augmentations, and the strategy that draws one.

Listing plugins imports this module, so it imports neither torch nor Kornia. `ld3m_plugin.augmentation.strategy` lists the
traps of Kornia that shape the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin import moved
from ld3m_plugin.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from ld3m_plugin.augmentation.color import DSABrightness, DSAColor, DSAContrast, DSASaturation
    from ld3m_plugin.augmentation.cutout import DSACutout
    from ld3m_plugin.augmentation.geometric import DSACrop, DSAFlip, DSARotate, DSAScale
    from ld3m_plugin.augmentation.parameters import Operation, Parameters, UniformGenerator, broadcast
    from ld3m_plugin.augmentation.strategy import DSA, DSADraw
    from ld3m_plugin.augmentation.strategy_names import FULL

_HERE = "ld3m_plugin.augmentation"
_HOMES = {
    **dict.fromkeys(("DSABrightness", "DSAColor", "DSAContrast", "DSASaturation"), f"{_HERE}.color"),
    "DSACutout": f"{_HERE}.cutout",
    **dict.fromkeys(("DSACrop", "DSAFlip", "DSARotate", "DSAScale"), f"{_HERE}.geometric"),
    **dict.fromkeys(("Operation", "Parameters", "UniformGenerator", "broadcast"), f"{_HERE}.parameters"),
    **dict.fromkeys(("DSA", "DSADraw"), f"{_HERE}.strategy"),
    "FULL": f"{_HERE}.strategy_names",
}

__all__ = [
    "DSA",
    "FULL",
    "DSABrightness",
    "DSAColor",
    "DSAContrast",
    "DSACrop",
    "DSACutout",
    "DSADraw",
    "DSAFlip",
    "DSARotate",
    "DSASaturation",
    "DSAScale",
    "Operation",
    "Parameters",
    "UniformGenerator",
    "broadcast",
]

__getattr__ = moved.lazy(__name__, _HOMES)


@hookimpl
def register_augmentations(register: Register) -> None:
    """Register the six operations that DSA was published with."""
    register("color", f"{_HERE}.color:DSAColor", summary="brightness, saturation and contrast")
    register("crop", f"{_HERE}.geometric:DSACrop", summary="a shift, with zeros moved in")
    register("cutout", f"{_HERE}.cutout:DSACutout", summary="a square of zeros")
    register("flip", f"{_HERE}.geometric:DSAFlip", summary="left and right exchanged, for half of the images")
    register("scale", f"{_HERE}.geometric:DSAScale", summary="height and width scaled")
    register("rotate", f"{_HERE}.geometric:DSARotate", summary="a rotation")

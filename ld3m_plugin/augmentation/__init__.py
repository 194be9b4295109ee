"""Differentiable augmentation: the operations of DSA as Kornia augmentations, and the strategy that draws one.

`ld3m_plugin.augmentation.strategy` lists the traps of Kornia that shape the code.
"""

from ld3m_plugin.augmentation.color import DSABrightness, DSAColor, DSAContrast, DSASaturation
from ld3m_plugin.augmentation.cutout import DSACutout
from ld3m_plugin.augmentation.geometric import DSACrop, DSAFlip, DSARotate, DSAScale
from ld3m_plugin.augmentation.strategy import DSA, DSADraw

__all__ = [
    "DSA",
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
]

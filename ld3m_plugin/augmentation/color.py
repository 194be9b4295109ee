"""The colour operations of DSA (Zhao & Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation).

The images are normalised, so nothing is clipped, and a mean of an image is a mean of normalised values.
"""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from ld3m_plugin.augmentation.parameters import KorniaOptions, Operation, Parameters, UniformGenerator, broadcast


class DSABrightness(Operation):
    """Adds one number to all pixels of each of the images (B, C, H, W).

    Args:
        strength: width of the range; `brightness_offset` is uniform in [-strength/2, strength/2], in units of the
            normalised images. Published: 1.
        kornia: see `Operation`.
    """

    def __init__(self, strength: float = 1.0, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(brightness_offset=(-strength / 2, strength / 2)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        return images + broadcast(images, params["brightness_offset"])


class DSASaturation(Operation):
    """Scales each pixel's distance to the mean over its channels, in images (B, C, H, W); C = 1 is returned unchanged.

    Args:
        strength: `saturation_factor` is uniform in [0, strength]. Published: 2.
        kornia: see `Operation`.
    """

    def __init__(self, strength: float = 2.0, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(saturation_factor=(0.0, strength)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        factor = broadcast(images, params["saturation_factor"])
        return images if images.shape[1] == 1 else _stretched(images, images.mean(dim=1, keepdim=True), factor)


class DSAContrast(Operation):
    """Scales the distance to the mean of the whole image, over channels and pixels, in images (B, C, H, W).

    Args:
        strength: `contrast_factor` is uniform in [strength, strength + 1]. Published: 0.5.
        kornia: see `Operation`.
    """

    def __init__(self, strength: float = 0.5, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(contrast_factor=(strength, strength + 1)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        factor = broadcast(images, params["contrast_factor"])
        return _stretched(images, images.mean(dim=(1, 2, 3), keepdim=True), factor)


class DSAColor(Operation):
    """`color` of a strategy for images (B, C, H, W): brightness, then saturation, then contrast, with three independent draws.

    Args:
        brightness, saturation, contrast: the strengths of the three. Published: 1, 2 and 0.5.
        kornia: see `Operation`.
    """

    def __init__(
        self,
        brightness: float = 1.0,
        saturation: float = 2.0,
        contrast: float = 0.5,
        **kornia: Unpack[KorniaOptions],
    ) -> None:
        parts = DSABrightness(brightness), DSASaturation(saturation), DSAContrast(contrast)
        ranges = {name: limits for part in parts for name, limits in part.settings.items()}
        super().__init__(UniformGenerator(**ranges), **kornia)
        self._parts = parts  # in a tuple: no submodules, each draw is of this operation

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        for part in self._parts:
            images = part.augment(images, params)
        return images


def _stretched(images: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    # (images - centre) * factor + centre, written so that factor 1 gives the images bit for bit
    return images * factor + centre * (1 - factor)

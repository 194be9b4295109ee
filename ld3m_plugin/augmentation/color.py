"""The colour operations of DSA (Zhao & Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation).

The images are normalised, so nothing is clipped, and a mean of an image is a mean of normalised values.
"""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from ld3m_plugin.augmentation.parameters import KorniaOptions, Operation, Parameters, UniformGenerator, broadcast


def brightened(images: Tensor, offset: Tensor) -> Tensor:
    """`images` (B, C, H, W) plus `offset` (B,) or (1,)."""
    return images + broadcast(images, offset)


def saturated(images: Tensor, factor: Tensor) -> Tensor:
    """`images` (B, C, H, W) with each pixel's distance to the mean over its channels times `factor` (B,) or (1,)."""
    scale = broadcast(images, factor)
    if images.shape[1] == 1:
        return images
    return _stretched(images, images.mean(dim=1, keepdim=True), scale)


def contrasted(images: Tensor, factor: Tensor) -> Tensor:
    """`images` (B, C, H, W) with the distance to the mean of the whole image times `factor` (B,) or (1,)."""
    return _stretched(images, images.mean(dim=(1, 2, 3), keepdim=True), broadcast(images, factor))


def _stretched(images: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    # (images - centre) * factor + centre, written so that factor 1 gives the images bit for bit
    return images * factor + centre * (1 - factor)


def brightness_range(strength: float) -> tuple[float, float]:
    """Range of the brightness offset, in units of the normalised images."""
    return -strength / 2, strength / 2


def saturation_range(strength: float) -> tuple[float, float]:
    """Range of the saturation factor."""
    return 0.0, strength


def contrast_range(strength: float) -> tuple[float, float]:
    """Range of the contrast factor."""
    return strength, strength + 1


class DSABrightness(Operation):
    """Adds one number to all pixels of an image.

    Args:
        strength: width of the range; `brightness_offset` is uniform in [-strength/2, strength/2], in units of the
            normalised images. Published: 1.
        kornia: see `Operation`.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, strength: float = 1.0, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(brightness_offset=brightness_range(strength)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        return brightened(images, params["brightness_offset"])


class DSASaturation(Operation):
    """Scales each pixel's distance to the mean over its channels; a grayscale image (C = 1) is returned unchanged.

    Args:
        strength: `saturation_factor` is uniform in [0, strength]. Published: 2.
        kornia: see `Operation`.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, strength: float = 2.0, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(saturation_factor=saturation_range(strength)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        return saturated(images, params["saturation_factor"])


class DSAContrast(Operation):
    """Scales the distance to the mean of the whole image, over channels and pixels.

    Args:
        strength: `contrast_factor` is uniform in [strength, strength + 1]. Published: 0.5.
        kornia: see `Operation`.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, strength: float = 0.5, **kornia: Unpack[KorniaOptions]) -> None:
        super().__init__(UniformGenerator(contrast_factor=contrast_range(strength)), **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        return contrasted(images, params["contrast_factor"])


class DSAColor(Operation):
    """`color` of a strategy: brightness, then saturation, then contrast, with three independent draws.

    Args:
        brightness, saturation, contrast: the strengths of the three. Published: 1, 2 and 0.5.
        kornia: see `Operation`.

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(
        self,
        brightness: float = 1.0,
        saturation: float = 2.0,
        contrast: float = 0.5,
        **kornia: Unpack[KorniaOptions],
    ) -> None:
        generator = UniformGenerator(
            brightness_offset=brightness_range(brightness),
            saturation_factor=saturation_range(saturation),
            contrast_factor=contrast_range(contrast),
        )
        super().__init__(generator, **kornia)

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        images = brightened(images, params["brightness_offset"])
        images = saturated(images, params["saturation_factor"])
        return contrasted(images, params["contrast_factor"])

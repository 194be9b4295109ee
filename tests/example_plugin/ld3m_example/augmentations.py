"""An operation for differentiable augmentation: strategies may name it, as in `color_fade`."""

from __future__ import annotations

from torch import Tensor

from ld3m_plugin.augmentation import Operation, Parameters, UniformGenerator, broadcast


class Fade(Operation):
    """Multiplies images by a number from [0.5, 1], one for each image or one for all."""

    def __init__(self) -> None:
        super().__init__(UniformGenerator(factor=(0.5, 1.0)))

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        return images * broadcast(images, params["factor"])

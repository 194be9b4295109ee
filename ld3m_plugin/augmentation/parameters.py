"""The base of the operations, and the generators of their parameters.

Kornia separates drawing from applying: a generator returns tensors of B rows, and applying them is a pure function. Here
every parameter is a vector of B rows, one for each image, or of a single row for all images, so that one siamese draw fits
any batch. Numbers are drawn on the CPU whatever the device of the images, so that a draw is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from kornia.augmentation import RigidAffineAugmentationBase2D
from kornia.augmentation.random_generator.base import RandomGeneratorBase
from torch import Tensor

from ld3m_plugin.devices.transfer import to_device

Parameters = Mapping[str, Tensor]


class ParameterGenerator(RandomGeneratorBase):
    """Base of the operations' generators: a subclass writes `draw`.

    Args:
        settings: of the distribution, by name; `repr` shows them.

    Kornia takes no `torch.Generator`; the numbers come from torch's global CPU stream. `DSA.draw` lends it a stream of
    the run, see `ld3m_plugin.randomness.lent_to_global`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def make_samplers(self, device: torch.device, dtype: torch.dtype) -> None:
        """Do nothing: Kornia calls this to move samplers to a device, and the draw stays on the CPU."""

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        """Parameters by name, each (count,), for images of `height`×`width` pixels."""
        raise NotImplementedError(f"{type(self).__name__} must implement draw")

    def forward(self, batch_shape: Sequence[int], same_on_batch: bool = False) -> dict[str, Tensor]:
        """Parameters by name, each (B,), for images of shape `batch_shape` (B, C, H, W).

        With `same_on_batch` all rows are equal.
        """
        batch, height, width = batch_shape[0], batch_shape[-2], batch_shape[-1]
        if not same_on_batch:
            return self.draw(batch, height, width)
        return {name: value.repeat(batch) for name, value in self.draw(1, height, width).items()}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


class UniformGenerator(ParameterGenerator):
    """Independent uniform numbers; the settings are ranges, name=(low, high)."""

    def draw(self, count: int, _height: int, _width: int, /) -> dict[str, Tensor]:
        return {
            name: torch.rand(count, dtype=torch.float32) * (high - low) + low
            for name, (low, high) in self.settings.items()
        }


class KorniaOptions(TypedDict, total=False):
    """Options of every Kornia augmentation; see `Operation`."""

    p: float
    same_on_batch: bool
    keepdim: bool


class Operation(RigidAffineAugmentationBase2D):
    """Base of the operations: a Kornia augmentation of images (B, C, H, W) alone, not of masks, boxes or key points.

    A subclass writes `augment`.

    Args:
        generator: draws the parameters.
        p: probability that an image is augmented.
        same_on_batch: draw one set of parameters for the whole batch.
        keepdim: return (C, H, W) for an image (C, H, W), instead of (1, C, H, W).
    """

    def __init__(
        self, generator: ParameterGenerator, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator, self.settings = generator, generator.settings

    def augment(self, images: Tensor, params: Parameters, /) -> Tensor:
        """`images` (B, C, H, W) under `params` of B rows or one, differentiable and with the same shape."""
        raise NotImplementedError(f"{type(self).__name__} must implement augment")

    def compute_transformation(self, input: Tensor, params: Parameters, flags: dict[str, Any]) -> Tensor:
        """Matrices (B, 3, 3) of NaN: Kornia wants pixel matrices, which nothing here uses; NaN is not mistaken for one."""
        return torch.full((len(input), 3, 3), torch.nan, device=input.device, dtype=input.dtype)

    def apply_transform(
        self, input: Tensor, params: Parameters, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Kornia's name for `augment`."""
        return self.augment(input, params)


def fitted(images: Tensor, value: Tensor) -> Tensor:
    """`value`, of one row or of one row per image, on the device of `images` (B, C, H, W).

    Raises:
        ValueError: any other number of rows.
    """
    if value.ndim != 1 or value.shape[0] not in (1, images.shape[0]):
        raise ValueError(f"parameters of shape {tuple(value.shape)} do not fit a batch of {images.shape[0]} images")
    return to_device(value, images.device)


def broadcast(images: Tensor, value: Tensor) -> Tensor:
    """`value` as (1 or B, 1, 1, 1) in the dtype of `images` (B, C, H, W)."""
    return fitted(images, value).to(images.dtype).view(-1, 1, 1, 1)


def share(size: int, ratio: float) -> int:
    """`ratio` of `size` in pixels, rounded half up as in the published code; Python's `round` goes to the even number.

    >>> share(20, 0.125), round(20 * 0.125)
    (3, 2)
    """
    return int(size * ratio + 0.5)

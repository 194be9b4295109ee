"""What the operations share: parameter generators on the CPU, and how a parameter meets a batch.

Kornia separates drawing from applying: a generator returns tensors of B rows, `apply_transform` is a pure function of
them. Here every parameter is a vector of B rows, one an image, or of a single row that holds for all of them, so that
one siamese draw fits any batch. Numbers are drawn on the CPU whatever the device of the images, so that a draw is the
same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from kornia.augmentation.random_generator.base import RandomGeneratorBase
from torch import Tensor

Parameters = Mapping[str, Tensor]


class ParameterGenerator(RandomGeneratorBase):
    """Base of the operations' generators: a subclass writes `draw`.

    Kornia takes no `torch.Generator`; the numbers come from torch's global CPU stream. `DSA.draw` lends it a stream of
    the run, see `ld3m_plugin.randomness.lent_to_global`.
    """

    def make_samplers(self, device: torch.device, dtype: torch.dtype) -> None:
        """Nothing to prepare: kornia calls this to move samplers to a device, and the draw stays on the CPU."""

    def draw(self, count: int, height: int, width: int, /) -> dict[str, Tensor]:
        """Parameters by name, each (count,), for images of `height`×`width` pixels."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it draws")

    def forward(self, batch_shape: Sequence[int], same_on_batch: bool = False) -> dict[str, Tensor]:
        """Parameters by name, each (B,), for images of shape `batch_shape` (B, C, H, W).

        With `same_on_batch` all rows are equal.
        """
        batch, height, width = batch_shape[0], batch_shape[-2], batch_shape[-1]
        if not same_on_batch:
            return self.draw(batch, height, width)
        return {name: value.repeat(batch) for name, value in self.draw(1, height, width).items()}


class UniformGenerator(ParameterGenerator):
    """Independent uniform numbers.

    Args:
        ranges: name -> (low, high).
    """

    def __init__(self, **ranges: tuple[float, float]) -> None:
        super().__init__()
        self.ranges = ranges

    def draw(self, count: int, _height: int, _width: int, /) -> dict[str, Tensor]:
        return {
            name: torch.rand(count, dtype=torch.float32) * (high - low) + low
            for name, (low, high) in self.ranges.items()
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{name}=({low:g}, {high:g})" for name, (low, high) in self.ranges.items())


def fitted(images: Tensor, value: Tensor) -> Tensor:
    """`value`, of one row or of one an image, on the device of `images` (B, C, H, W).

    Raises:
        ValueError: any other number of rows.
    """
    if value.ndim != 1 or value.shape[0] not in (1, images.shape[0]):
        raise ValueError(f"parameters of shape {tuple(value.shape)} do not fit a batch of {images.shape[0]} images")
    return value.to(images.device)


def broadcast(images: Tensor, value: Tensor) -> Tensor:
    """`value` as (1 or B, 1, 1, 1) in the dtype of `images` (B, C, H, W)."""
    return fitted(images, value).to(images.dtype).view(-1, 1, 1, 1)


def share(size: int, ratio: float) -> int:
    """`ratio` of `size` pixels, rounded half up as published; Python's `round` goes to the even number.

    >>> share(20, 0.125), round(20 * 0.125)
    (3, 2)
    """
    return int(size * ratio + 0.5)

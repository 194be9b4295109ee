"""ConvNet, the usual network for learning distilled images.

Gidaris and Komodakis, Dynamic Few-Shot Visual Learning without Forgetting (CVPR 2018), in the form of Zhao et al.,
Dataset Condensation with Gradient Matching (ICLR 2021).
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator
from torch import nn

from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.networks.fast_layers import Convolution
from ld3m_plugin.networks.layers import (
    GROUPS,
    NORMS,
    Activation,
    Classifier,
    Count,
    Norm,
    Pooling,
    activation,
    downsampling,
    normalisation,
    padded_size,
    stem_padding,
)
from ld3m_plugin.options import Options, build


def default_depth(image_size: int) -> int:
    """Number of blocks that reduce a power of two to a 4×4 grid: 3 at 28 and 32 pixels, 4 at 64, 5 at 128, 6 at 256.

    >>> [default_depth(size) for size in (28, 32, 64, 128, 256)]
    [3, 3, 4, 5, 6]
    """
    ceil_log2 = (image_size - 1).bit_length()
    return max(1, ceil_log2 - 2)


class ConvNetOptions(Options):
    """Settings of a ConvNet."""

    depth: int | None = Field(
        None, ge=1, strict=True, description="blocks; default: those that leave a 4x4 grid, 3 at 32 pixels, 5 at 128"
    )
    width: Count = Field(128, description="channels of every convolution")
    norm: Norm = Field("instancenorm", description=NORMS)
    act: Activation = Field("relu", description="activation after the norm")
    pooling: Pooling = Field("avg", description="halves height and width in every block")

    @model_validator(mode="after")
    def _groups_divide_width(self) -> Self:
        if self.norm == "groupnorm" and self.width % GROUPS:
            raise ValueError(f"width = {self.width}: must be a multiple of {GROUPS} for norm = 'groupnorm'")
        return self


class ConvNet(Classifier):
    """`depth` blocks of 3×3 convolution, norm, activation and pooling, then one linear layer.
    Features (N, width·h·w) are those of the last block.

    Parameters are named as in published expert trajectories: "features.<index>" counts only existing layers.
    Images of 28×28 are padded to 32×32 by the first convolution.

    Args:
        channels: C.
        image_size: H = W.
        num_classes: K.
        settings: the fields of `ConvNetOptions`.

    Raises:
        InvalidOptionError: a setting is out of range, or there are more blocks than the image can be halved.
    """

    Options = ConvNetOptions

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        options = build(ConvNetOptions, settings, "network 'ConvNet'")
        width, norm, pooling = options.width, options.norm, options.pooling
        blocks = default_depth(image_size) if options.depth is None else options.depth
        size = padded_size(image_size)
        if pooling != "none" and blocks > (deepest := size.bit_length() - 1):
            raise InvalidOptionError(
                f"ConvNet: depth = {blocks}: image_size {image_size} can be halved only {deepest} times; "
                "choose fewer blocks, larger images or pooling = 'none'"
            )

        layers: list[nn.Module] = []
        for block in range(blocks):
            padding = stem_padding(3, image_size) if block == 0 else 1
            layers.append(Convolution(width if block else channels, width, 3, padding=padding))
            layers += [normalisation(norm, width, size), activation(options.act), downsampling(pooling)]
            size = size if pooling == "none" else size // 2
        # Identity layers are left out: a layer's index is part of its parameters' names.
        self.features = nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
        self.classifier = nn.Linear(width * size * size, num_classes)

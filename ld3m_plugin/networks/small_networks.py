"""Cheap relatives of the published networks: together with the MLP, the unseen networks of protocol `unseen`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ld3m_plugin.networks.convnet import ConvNet, ConvNetOptions
from ld3m_plugin.networks.layers import NORMS, Count, Norm, Pooling
from ld3m_plugin.networks.resnet import ResidualNetwork
from ld3m_plugin.networks.vit import ViT, ViTOptions
from ld3m_plugin.options import build


class MaxConvNetOptions(ConvNetOptions):
    """Settings of a MaxConvNet: those of a ConvNet with other defaults."""

    width: Count = Field(32, description="channels of every convolution")
    norm: Norm = Field("none", description=NORMS)
    pooling: Pooling = Field("max", description="halves height and width in every block")


class MaxConvNet(ConvNet):
    """A ConvNet with max pooling and without norm: the distilling ConvNet's neighbour in shape, without its means and scales."""

    Options = MaxConvNetOptions

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        options = build(MaxConvNetOptions, settings, "network 'MaxConvNet'")
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes, **options.model_dump())


class SmallViTOptions(ViTOptions):
    """Settings of a SmallViT: those of a ViT with other defaults."""

    patch_size: Count | None = Field(  # type: ignore[assignment]
        None, description="height and width of a patch, in pixels; default: a quarter of the image, rounded up"
    )
    dim: Count = Field(64, description="features of a token, a multiple of heads")
    depth: Count = Field(3, description="attention layers")
    heads: Count = Field(4, description="attention heads")
    mlp_dim: Count = Field(128, description="hidden features of the feed-forward layers")


class SmallViT(ViT):
    """A ViT of 16 tokens of 64 features, with three layers of four heads."""

    Options = SmallViTOptions

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        options = build(SmallViTOptions, settings, "network 'SmallViT'")
        given = {**options.model_dump(), "patch_size": options.patch_size or -(-image_size // 4)}
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes, **given)


class ResNet8(ResidualNetwork):
    """A 3x3 stem, three stages of one block with 16, 32 and 64 channels, the spatial mean, one linear layer.

    He et al., Deep Residual Learning for Image Recognition (CVPR 2016), section 4.2, with n = 1 (6n + 2 = 8 layers), except that
    shortcuts that change the shape are 1x1 convolutions, and the norm is that of this field's ResNet18.

    Args:
        channels: C.
        image_size: H = W, at least 5: the last stage of a smaller image is one pixel, whose instance norm is constant.
        num_classes: K.
        settings: the fields of `NormOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    smallest, widths, blocks = 5, (16, 32, 64), 1

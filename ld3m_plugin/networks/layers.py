"""Layers by name, and checks of settings that the networks share.

"Instance norm" in this field is `GroupNorm(C, C)` with learned scale and shift, not `InstanceNorm2d`: published figures
depend on those learned parameters.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.options import Options

#: Description of the option `norm`.
NORMS = "instancenorm is GroupNorm(C, C), groupnorm has four groups, layernorm spans (C, h, w)"
Norm = Literal["batchnorm", "layernorm", "instancenorm", "groupnorm", "none"]
Activation = Literal["relu", "leakyrelu", "sigmoid", "swish"]
Pooling = Literal["avg", "max", "none"]

#: A whole number of at least 1; `True` and 3.0 are none.
Count = Annotated[int, Field(ge=1, strict=True)]

#: Groups of `groupnorm`, as in Zhao et al., Dataset Condensation with Gradient Matching (ICLR 2021).
GROUPS = 4


def check_counts(owner: str, **settings: int) -> None:
    """Reject settings that are not whole numbers of at least 1.

    Raises:
        InvalidOptionError: the message names `owner`, the setting and its value.
    """
    for name, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidOptionError(f"{owner}: {name} = {value!r}: must be a whole number of at least 1")


def check_image_size(owner: str, image_size: int, smallest: int) -> None:
    """Reject images that the pooling and strides of `owner` would shrink to nothing.

    Raises:
        InvalidOptionError: the message names the smallest size.
    """
    if image_size < smallest:
        raise InvalidOptionError(f"{owner}: image_size = {image_size!r}: must be at least {smallest}")


def check_groups(owner: str, norm: str, width: int) -> None:
    """Reject group norm if the groups do not divide the width.

    Raises:
        InvalidOptionError: the message names the multiple.
    """
    if norm == "groupnorm" and width % GROUPS:
        raise InvalidOptionError(f"{owner}: width = {width!r}: must be a multiple of {GROUPS} for norm = 'groupnorm'")


def padded_size(image_size: int) -> int:
    """Image size after the first layer, which pads MNIST's 28 pixels to 32; other sizes do not change."""
    return 32 if image_size == 28 else image_size


def stem_padding(kernel_size: int, image_size: int) -> int:
    """Padding of a first convolution of stride 1 whose output has `padded_size(image_size)` pixels."""
    return kernel_size // 2 + (padded_size(image_size) - image_size) // 2


class NormOptions(Options):
    """The setting of networks of which only the norm can be chosen."""

    norm: Norm = Field("instancenorm", description=NORMS)


class LayerNorm(nn.LayerNorm):
    """Layer norm of feature maps, computed by the kernel of group norm with one group.

    The second derivative of the layer norm kernel in torch.func is silently wrong (seen with torch 2.14); that of group norm
    is right. Parameters keep their names and shapes.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps (N, C, h, w) of maps (N, C, h, w)."""
        return F.group_norm(maps, 1, eps=self.eps) * self.weight + self.bias


def normalisation(norm: Norm, channels: int, size: int) -> nn.Module:
    """A layer for feature maps (N, channels, size, size); `Identity` for "none"."""
    match norm:
        case "batchnorm":
            return nn.BatchNorm2d(channels)
        case "layernorm":
            return LayerNorm([channels, size, size])
        case "instancenorm":
            return nn.GroupNorm(channels, channels)
        case "groupnorm":
            return nn.GroupNorm(GROUPS, channels)
        case "none":
            return nn.Identity()


def activation(act: Activation) -> nn.Module:
    """A pointwise layer, never in place, so that forward hooks see the true output of the layer before."""
    match act:
        case "relu":
            return nn.ReLU()
        case "leakyrelu":
            return nn.LeakyReLU()
        case "sigmoid":
            return nn.Sigmoid()
        case "swish":
            return nn.SiLU()


def downsampling(pooling: Pooling) -> nn.Module:
    """A layer that halves height and width, rounding down; `Identity` for "none"."""
    match pooling:
        case "avg":
            return nn.AvgPool2d(2)
        case "max":
            return nn.MaxPool2d(2)
        case "none":
            return nn.Identity()

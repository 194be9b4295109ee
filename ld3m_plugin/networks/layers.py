"""The base of the classifiers, and layers by name.

"Instance norm" in this field is `GroupNorm(C, C)` with learned scale and shift, not `InstanceNorm2d`: published figures
depend on those learned parameters.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.networks.fast_layers import AveragePooling, InstanceNorm
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


class Classifier(Network):
    """A network whose last layer is linear and takes the features of `embed`: by default those of `self.features`, flattened.

    Attributes:
        head: name of the last layer, as in published checkpoints.
        smallest: image size below which pooling and strides leave nothing.

    Raises:
        InvalidOptionError: C, H or K is not a whole number of at least 1, or the image is too small.
    """

    head: ClassVar[str] = "classifier"
    smallest: ClassVar[int] = 1
    features: nn.Module

    def __init__(self, **shape: int) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, value in shape.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidOptionError(f"{owner}: {name} = {value!r}: must be a whole number of at least 1")
        if padded_size(shape["image_size"]) < self.smallest:
            raise InvalidOptionError(f"{owner}: image_size = {shape['image_size']}: must be at least {self.smallest}")

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, F) that enter the last layer, of images (N, C, H, W)."""
        features: Tensor = self.features(images)
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = self.get_submodule(self.head)(self.embed(images))
        return logits


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
            return InstanceNorm(channels)
        case "groupnorm":
            return nn.GroupNorm(GROUPS, channels)
        case "none":
            return nn.Identity()


def activation(act: Activation) -> nn.Module:
    """A pointwise layer, never in place, so that forward hooks see the true output of the layer before."""
    layers: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "leakyrelu": nn.LeakyReLU,
        "sigmoid": nn.Sigmoid,
        "swish": nn.SiLU,
    }
    return layers[act]()


def downsampling(pooling: Pooling) -> nn.Module:
    """A layer that halves height and width, rounding down; `Identity` for "none"."""
    match pooling:
        case "avg":
            return AveragePooling()
        case "max":
            return nn.MaxPool2d(2)
        case "none":
            return nn.Identity()

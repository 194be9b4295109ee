"""The discriminator: residual convolutions, batch statistics, a projection on the class.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (StyleGAN2), CVPR 2020, appendix B (residual
discriminator, equalised rates); Karras et al., "Progressive Growing of GANs", ICLR 2018, section 3 (deviation over a batch);
Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018. StyleGAN-XL's own discriminator uses features of
networks trained on ImageNet, which suit other data less.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ld3m_plugin.generators.glad.stylegan_layers import FullyConnected

_SLOPE = 0.2
_GROUP = 4


class Discriminator(nn.Module):
    """Logits (n,), high for real images, of images (n, C, H, H) and their classes (n,)."""

    def __init__(self, image_channels: int, image_size: int, num_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = _Convolution(image_channels, widths[0], 1)
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in pairwise(widths))
        last, side = widths[-1], image_size // 2 ** (len(widths) - 1)
        self.mix = _Convolution(last + 1, last, 3)
        self.features = FullyConnected(last * side**2, last, leaky=True)
        self.logit = FullyConnected(last, 1)
        self.embedding = nn.Embedding(num_classes, last)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        hidden = self.first(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.mix(torch.cat([hidden, _deviation(hidden)], 1))
        features = self.features(hidden.flatten(1))
        projected = (features * self.embedding(classes)).sum(1) / math.sqrt(features.shape[1])
        return self.logit(features)[:, 0] + projected  # type: ignore[no-any-return]


class _Convolution(nn.Module):
    """A convolution with an equalised learning rate, then leaky ReLU with gain √2."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, leaky: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if leaky else None
        self._gain = 1 / math.sqrt(inputs * kernel**2)
        self._leaky, self._padding = leaky, kernel // 2

    def forward(self, images: Tensor) -> Tensor:
        result = F.conv2d(images, self.weight * self._gain, self.bias, padding=self._padding)
        return F.leaky_relu(result, _SLOPE) * math.sqrt(2) if self._leaky else result


class _Block(nn.Module):
    """Two convolutions and a shortcut; halves the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one = _Convolution(inputs, inputs, 3)
        self.two = _Convolution(inputs, outputs, 3)
        self.shortcut = _Convolution(inputs, outputs, 1, leaky=False)

    def forward(self, images: Tensor) -> Tensor:
        # Averaging before the 3x3 convolution quarters its work.
        long = self.two(F.avg_pool2d(self.one(images), 2))
        return (long + self.shortcut(F.avg_pool2d(images, 2))) / math.sqrt(2)  # type: ignore[no-any-return]


def _deviation(hidden: Tensor) -> Tensor:
    """Standard deviation over groups of images, as a channel (n, 1, h, h): it shows when a generator repeats itself."""
    count = hidden.shape[0]
    group = math.gcd(count, _GROUP)
    parts = hidden.unflatten(0, (group, count // group))
    # The epsilon keeps the gradient finite for a group of one image or of equal ones.
    deviation: Tensor = (parts.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(group).view(-1, 1, 1, 1).expand(-1, 1, *hidden.shape[2:])

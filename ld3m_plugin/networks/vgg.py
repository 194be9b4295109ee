"""VGG11 with instance norm and a single linear layer.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (ICLR 2015), configuration A,
in the form of Cazenavette et al., Generalizing Dataset Distillation via Deep Generative Prior (CVPR 2023): the last
feature map is max-pooled to 7×7 at every image size; at 32 pixels that repeats one pixel 49 times.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ld3m_plugin.networks.layers import Classifier, NormOptions, normalisation, padded_size, stem_padding
from ld3m_plugin.options import build

#: Widths of the convolutions; max pooling follows each group.
GROUPS_OF_WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(Classifier):
    """Eight 3×3 convolutions with norm and ReLU in five groups, max pooling after each, then one linear layer.
    Features (N, 25088) are those of the last pooling.

    Images of 28×28 are padded to 32×32 by the first convolution.

    Args:
        channels: C.
        image_size: H = W, at least 32 (or 28).
        num_classes: K.
        settings: the fields of `NormOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    Options = NormOptions
    smallest = 2 ** len(GROUPS_OF_WIDTHS)

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        norm = build(NormOptions, settings, "network 'VGG11'").norm
        layers: list[nn.Module] = []
        before, size = channels, padded_size(image_size)
        for widths in GROUPS_OF_WIDTHS:
            for width in widths:
                padding = 1 if layers else stem_padding(3, image_size)
                layers += [nn.Conv2d(before, width, 3, padding=padding), normalisation(norm, width, size), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
            size //= 2
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(7))
        self.classifier = nn.Linear(before * 7 * 7, num_classes)

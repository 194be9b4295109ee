"""A multilayer perceptron on pixels: the cheapest network that knows nothing of neighbours.

It is one of the networks that Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, test across
architectures, there with two hidden layers of 128 units.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from ld3m_plugin.networks.layers import Activation, Classifier, Count, activation
from ld3m_plugin.options import Options, build


class MLPOptions(Options):
    """Settings of an MLP."""

    width: Count = Field(256, description="units of every hidden layer")
    depth: Count = Field(2, description="hidden layers")
    act: Activation = Field("relu", description="activation after each")


class MLP(Classifier):
    """`depth` hidden layers on the pixels in a row, then one linear layer. Features (N, width) are those of the last hidden one.

    Args:
        channels: C.
        image_size: H = W.
        num_classes: K.
        settings: the fields of `MLPOptions`.

    Raises:
        InvalidOptionError: a setting is out of range.
    """

    Options = MLPOptions

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__(channels=channels, image_size=image_size, num_classes=num_classes)
        options = build(MLPOptions, settings, "network 'MLP'")
        layers: list[nn.Module] = [nn.Flatten()]
        for index in range(options.depth):
            before = options.width if index else channels * image_size**2
            layers += [nn.Linear(before, options.width), activation(options.act)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(options.width, num_classes)

"""A network with options of its own."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from ld3m_plugin.contracts import Network, Options
from ld3m_plugin.options import build


class MLPOptions(Options):
    """Settings of the network: `-O network=ExampleMLP -O 'network_settings={hidden: 32}'`."""

    hidden: int = Field(64, ge=1, description="features of the hidden layer")


class MLP(Network):
    """Pixels, one hidden layer, logits."""

    Options = MLPOptions

    def __init__(self, *, channels: int, image_size: int, num_classes: int, **settings: Any) -> None:
        super().__init__()
        options = build(MLPOptions, settings, "network 'ExampleMLP'")
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, options.hidden), nn.ReLU())
        self.last = nn.Linear(options.hidden, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.hidden(images)  # (N, F)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.embed(images))
        return logits

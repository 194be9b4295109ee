"""The StyleGAN-XL generator: random vectors and classes to styles, styles to images.

Source: Sauer, Schwarz and Geiger, "StyleGAN-XL", SIGGRAPH 2022, section 3 (class embeddings in the mapping network, small z,
growing by stages); Karras et al., StyleGAN3, NeurIPS 2021, section 4 (synthesis). Names of parameters and buffers are those of
the official network files.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import one_line
from ld3m_plugin.generators.glad.stylegan_layers import FourierInput, FullyConnected, SynthesisLayer
from ld3m_plugin.generators.glad.stylegan_shape import NetworkShape


class MappingNetwork(nn.Module):
    """Random vectors z and classes to styles w."""

    w_avg: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.z_dim
        if shape.classes:
            self.embed = nn.Embedding(shape.classes, shape.embed_dim)
            self.embed_proj = FullyConnected(shape.embed_dim, shape.z_dim, leaky=True)
            width += shape.z_dim
        for index in range(shape.mapping_layers):
            self.add_module(f"fc{index}", FullyConnected(width, shape.w_dim, rate=shape.mapping_rate, leaky=True))
            width = shape.w_dim
        self.register_buffer("w_avg", torch.zeros((shape.classes, shape.w_dim) if shape.classes else (shape.w_dim,)))

    def forward(self, z: Tensor, classes: Tensor, truncation: float = 1.0) -> Tensor:
        """Styles (n, w_dim).

        Args:
            z: (n, z_dim).
            classes: rows (n,) of the class embedding; ignored by an unconditional network.
            truncation: psi; 1 leaves w unchanged, 0 gives the mean of the class.
        """
        features = _unit_power(z)
        if self.shape.classes:
            features = torch.cat([features, _unit_power(self.embed_proj(self.embed(classes)))], 1)
        for index in range(self.shape.mapping_layers):
            features = self.get_submodule(f"fc{index}")(features)
        if truncation == 1:
            return features
        mean = self.w_avg[classes] if self.shape.classes else self.w_avg
        return mean.lerp(features, truncation)

    @torch.no_grad()
    def set_mean_styles(self, rng: torch.Generator, count: int = 10_000) -> None:
        """Set `w_avg` to the mean style of each class over `count` random vectors."""
        device = self.w_avg.device
        means = []
        for k in range(max(1, self.shape.classes)):
            z = torch.randn(count, self.shape.z_dim, generator=rng).to(device)
            means.append(self(z, torch.full((count,), k, device=device)).mean(0))
        self.w_avg.copy_(torch.stack(means) if self.shape.classes else means[0])


class SynthesisNetwork(nn.Module):
    """Styles to images; features can be read before any layer, and given to it."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.input = FourierInput(
            shape.w_dim, shape.input_channels, shape.input_size, shape.input_rate, shape.bandwidth
        )
        for layer in shape.layers:
            self.add_module(layer.name, SynthesisLayer(shape.w_dim, layer))

    def features(self, ws: Tensor, layer: int) -> Tensor:
        """Compute the features (n, c, h, h) that enter a layer, of styles (n, num_ws, w_dim).

        Args:
            layer: index of the layer in order, from 0; the numbers in the names of a grown network skip one.
        """
        return self._run(self.input(ws[:, 0]), ws, 0, layer)

    def forward(self, ws: Tensor, features: Tensor | None = None, layer: int = 0) -> Tensor:
        """Render images (n, C, H, W), about -1 to 1, from styles (n, num_ws, w_dim).

        Args:
            features: (n, c, h, h) to enter layer `layer` with; default: those that the styles give.
        """
        features = self.input(ws[:, 0]) if features is None else features
        return self._run(features, ws, layer, len(self.shape.layers)) * self.shape.output_scale

    def _run(self, features: Tensor, ws: Tensor, start: int, stop: int) -> Tensor:
        for index in range(start, stop):
            features = self.get_submodule(self.shape.layers[index].name)(features, ws[:, index + 1])
        return features


class GeneratorNetwork(nn.Module):
    """Mapping and synthesis together, under the names of the official files."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.mapping = MappingNetwork(shape)
        self.synthesis = SynthesisNetwork(shape)

    def forward(self, z: Tensor, classes: Tensor, truncation: float = 1.0) -> Tensor:
        """Render images (n, C, H, W) from random vectors (n, z_dim) and classes (n,)."""
        return self.synthesis(self.broadcast(self.mapping(z, classes, truncation)))  # type: ignore[no-any-return]

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeat styles (n, w_dim) for every layer: (n, num_ws, w_dim)."""
        return w[:, None].expand(-1, self.shape.num_ws, -1)

    def freeze(self) -> GeneratorNetwork:
        """Prepare for rendering: no gradients of weights, and their normalisation computed once."""
        self.eval().requires_grad_(False)
        for layer in self.synthesis.modules():
            if isinstance(layer, SynthesisLayer):
                layer.freeze()
        return self


def misfit(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """Name the first tensor, of shapes by name, that is missing, left over or of another shape; None: all fit."""
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            has, wanted = (shapes.get(name, "none") for shapes in (found, expected))
            return f"tensor {one_line(name)}: the file has {has}, the network needs {wanted}"
    return None


def _unit_power(features: Tensor) -> Tensor:
    return features * (features.square().mean(1, keepdim=True) + 1e-8).rsqrt()

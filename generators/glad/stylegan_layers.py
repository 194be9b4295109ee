"""The parts of a synthesis network: fully connected layers with equalised learning rates, Fourier features, alias-free layers.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (StyleGAN3), NeurIPS 2021, sections 3 and 4.
Styles modulate the activations, not a copy of the weights for every image: to multiply a convolution's input channels by styles
is the same as to scale its weights, and one convolution serves the whole batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ld3m_plugin.generators.glad.filters import design_filter, filter_down, filter_up
from ld3m_plugin.generators.glad.stylegan_shape import LayerShape

_SLOPE = 0.2
_EPSILON = 1e-8
_MAGNITUDE_DECAY = 0.999


class FullyConnected(nn.Module):
    """A linear layer with weights of unit variance that are scaled in use (equalised learning rate).

    Args:
        rate: learning-rate multiplier; weights are stored divided by it.
        leaky: apply leaky ReLU with gain √2.
    """

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, leaky: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.rate, self.leaky = rate, leaky

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, inputs) to (n, outputs)."""
        gain = self.rate / math.sqrt(self.weight.shape[1])
        result = F.linear(features, self.weight * gain, self.bias * self.rate)
        return F.leaky_relu(result, _SLOPE) * math.sqrt(2) if self.leaky else result


class FourierInput(nn.Module):
    """Fourier features of a plane, translated and rotated by a style, then mixed by a matrix.

    Source: StyleGAN3, section 4 and appendix F: w sets the translation and rotation, so that the layers need no positions.
    """

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, w_dim: int, channels: int, size: int, rate: float, bandwidth: float) -> None:
        super().__init__()
        self.size, self.rate, self.bandwidth = size, rate, bandwidth
        frequencies = torch.randn(channels, 2)
        radius = frequencies.square().sum(1, keepdim=True).sqrt()
        # Uniform over the disc within the bandwidth.
        frequencies = frequencies / (radius * radius.square().exp().pow(0.25)) * bandwidth
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = FullyConnected(w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data[0] = 1
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", frequencies)
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        """Features (n, channels, size, size) of styles (n, w_dim)."""
        # Of the phases, which are large, only the fraction counts: half precision would lose it.
        with torch.autocast(w.device.type, enabled=False):
            frequencies, phases = self._moved(self.affine(w.to(self.weight.dtype)))
            span = self.size / self.rate / 2
            # Centres of the samples, where the image without its margin is one unit wide.
            steps = torch.arange(self.size, device=w.device, dtype=self.weight.dtype)
            at = (steps * 2 + 1 - self.size) / self.size * span
            rows, columns = torch.meshgrid(at, at, indexing="ij")
            plane = torch.stack([columns, rows], -1)  # (size, size, 2): x before y
            waves = torch.einsum("hwd,ncd->nhwc", plane, frequencies) + phases[:, None, None]
            radius = frequencies.norm(dim=2)
            fade = ((self.rate / 2 - radius) / (self.rate / 2 - self.bandwidth)).clamp(0, 1)
            features = torch.sin(2 * math.pi * waves) * fade[:, None, None]
            mixed: Tensor = features @ (self.weight / math.sqrt(self.weight.shape[1])).T
            return mixed.permute(0, 3, 1, 2)  # channels stay innermost in memory

    def _moved(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the rotation and translation of styles (n, 4), then `transform`: frequencies (n, c, 2) and phases (n, c)."""
        cos, sin, x, y = (style / style[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
        translation = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).view(-1, 3, 3)
        motion = rotation @ translation @ self.transform
        phases = self.phases + (self.freqs @ motion[:, :2, 2:]).squeeze(2)
        return self.freqs @ motion[:, :2, :2], phases


class SynthesisLayer(nn.Module):
    """Modulated convolution and bias, then leaky ReLU between an upsampling and a downsampling filter.

    Attributes:
        energy: (out, in) power of the frozen weights, for demodulation; None while they can change.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None
    energy: Tensor | None

    def __init__(self, w_dim: int, shape: LayerShape) -> None:
        super().__init__()
        self.shape = shape
        self.affine = FullyConnected(w_dim, shape.in_channels)
        nn.init.ones_(self.affine.bias)
        self.weight = nn.Parameter(torch.randn(shape.out_channels, shape.in_channels, shape.kernel, shape.kernel))
        self.bias = nn.Parameter(torch.zeros(shape.out_channels))
        self.register_buffer("magnitude_ema", torch.ones(()))
        inner, radial = shape.inner_rate, shape.radial and not shape.critical
        up = design_filter(shape.up_taps, shape.in_cutoff, shape.in_half_width * 2, inner)
        down = design_filter(shape.down_taps, shape.out_cutoff, shape.out_half_width * 2, inner, radial)
        self.register_buffer("up_filter", up)
        self.register_buffer("down_filter", down)
        self.register_buffer("energy", None, persistent=False)

    @torch.no_grad()
    def freeze(self) -> None:
        """Normalise the weights in place once and not in every render; the layer computes the same function."""
        if not self.shape.to_rgb:
            weight, self.energy = self._normalised()
            self.weight.copy_(weight)

    def _normalised(self) -> tuple[Tensor, Tensor]:
        """Weights of unit power for each output channel, and their energy (out, in)."""
        weight = self.weight * self.weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
        return weight, weight.square().sum((2, 3))

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """Features (n, out, out_size, out_size) of features (n, in, in_size, in_size) and styles (n, w_dim)."""
        if self.training:
            with torch.no_grad():
                magnitude = features.detach().float().square().mean()
                self.magnitude_ema.lerp_(magnitude, 1 - _MAGNITUDE_DECAY)
        gain = self.magnitude_ema.rsqrt()
        style = self.affine(w)
        weight: Tensor = self.weight
        after: Tensor | None = None
        if self.shape.to_rgb:
            style = style / math.sqrt(self.shape.in_channels * self.shape.kernel**2) * gain
        else:
            weight, energy = (weight, self.energy) if self.energy is not None else self._normalised()
            # Demodulation cancels any factor of a style; with unit power the epsilon weighs the same in every row.
            style = style * style.square().mean(1, keepdim=True).rsqrt()
            after = (style.square() @ energy.T + _EPSILON).rsqrt() * gain
        features = features * style[:, :, None, None]
        features = F.conv2d(features, weight.to(features.dtype), padding=self.shape.kernel - 1)
        if after is not None:
            features = features * after[:, :, None, None]
        return self._activate(features + self.bias[:, None, None])

    def _activate(self, features: Tensor) -> Tensor:
        shape, bound = self.shape, self.shape.clamp
        if not shape.to_rgb:
            # √2 keeps the power. A positive factor commutes with leaky ReLU; here the features have the fewest samples.
            features = features * math.sqrt(2)
        if self.up_filter is not None:
            features = filter_up(features, self.up_filter, shape.up, shape.padding)
        if not shape.to_rgb:
            # In place: the backward pass of the filter does not need its output.
            features = F.leaky_relu(features, _SLOPE, inplace=True)
        if bound is not None:
            features = F.hardtanh(features, -bound, bound)  # backward in one pass, where clamp needs four
        return features if self.down_filter is None else filter_down(features, self.down_filter, shape.down)

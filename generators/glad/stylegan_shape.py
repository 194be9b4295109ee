"""The shape of a StyleGAN-XL generator: everything about it that is not a weight.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (StyleGAN3), NeurIPS 2021, section 3.2 and appendix B: layers
whose cutoff and stopband frequencies grow geometrically, the last ones critically sampled. Sauer, Schwarz and Geiger,
"StyleGAN-XL", SIGGRAPH 2022, section 3.2: progressive growing drops a stem's critically sampled layers and appends new ones that
go on from its last cutoff.

Frequencies and rates are in cycles per image width. A released network's own numbers are read from it: the rules here are for
new ones.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class LayerShape:
    """One synthesis layer: modulated convolution, filtered leaky ReLU.

    Attributes:
        in_size, out_size: height and width of the features with their margin, in samples.
        in_rate, out_rate: sampling rates.
        in_cutoff, out_cutoff, in_half_width, out_half_width: of the low-pass filters' transition bands.
        to_rgb: the last layer, without demodulation, nonlinearity and filters.
        critical: cutoff at the sampling limit; such layers go when the network grows.
        filter_size: taps of a low-pass filter for each factor of resampling.
        radial: the filter that goes down is radially symmetric (jinc).
        clamp: bound of the activations.
    """

    name: str
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    in_rate: int
    out_rate: int
    in_cutoff: float
    out_cutoff: float
    in_half_width: float
    out_half_width: float
    to_rgb: bool = False
    critical: bool = False
    kernel: int = 3
    filter_size: int = 6
    lrelu_upsampling: int = 2
    radial: bool = False
    clamp: float | None = 256.0

    @property
    def inner_rate(self) -> int:
        """Sampling rate at which the nonlinearity is applied."""
        return max(self.in_rate, self.out_rate) * (1 if self.to_rgb else self.lrelu_upsampling)

    @property
    def up(self) -> int:
        """Factor from the input to the nonlinearity."""
        return self.inner_rate // self.in_rate

    @property
    def down(self) -> int:
        """Factor from the nonlinearity to the output."""
        return self.inner_rate // self.out_rate

    @property
    def up_taps(self) -> int:
        """Taps of the filter that goes up; 1: none."""
        return self.filter_size * self.up if self.up > 1 and not self.to_rgb else 1

    @property
    def down_taps(self) -> int:
        """Taps of the filter that goes down; 1: none."""
        return self.filter_size * self.down if self.down > 1 and not self.to_rgb else 1

    @property
    def convolved_size(self) -> int:
        """Height and width after the convolution, which pads by one less than its kernel on each side."""
        return self.in_size + self.kernel - 1

    @property
    def padding(self) -> tuple[int, int]:
        """Samples added before and after the row of zero-stuffed ones, negative ones cropped, so that `out_size` comes out."""
        needed = (self.out_size - 1) * self.down + 1 + self.up_taps + self.down_taps - 2
        total = needed - self.convolved_size * self.up
        # Half a sample of the coarse grid before the middle: filters of an even length shift by half a tap.
        before = (total + self.up) // 2
        return before, total - before


@dataclass(frozen=True)
class NetworkShape:
    """A whole generator.

    Attributes:
        z_dim, w_dim: lengths of the random vector and of a style.
        classes: K of the data it was trained on; 0: unconditional.
        embed_dim: length of a class's embedding before it is projected to z_dim.
        mapping_layers: layers from z (and class) to w.
        mapping_rate: learning-rate multiplier of those layers, a factor of their weights.
        input_channels, input_size, input_rate, bandwidth: of the Fourier features.
        output_scale: what the last layer's output is multiplied with.
    """

    z_dim: int
    w_dim: int
    classes: int
    embed_dim: int
    mapping_layers: int
    mapping_rate: float
    image_size: int
    image_channels: int
    input_channels: int
    input_size: int
    input_rate: float
    bandwidth: float
    output_scale: float
    layers: tuple[LayerShape, ...]

    @property
    def num_ws(self) -> int:
        """Styles an image: one of the input, one of each layer."""
        return len(self.layers) + 1


def check_shape(shape: NetworkShape) -> None:
    """Whether a network of that shape can be built, and each layer takes what the one before it makes.

    Raises:
        ValueError: it cannot; the message says what is wrong.
    """
    names = [layer.name for layer in shape.layers]
    if not names or len(set(names)) != len(names) or not all(re.fullmatch(r"L\w+", name) for name in names):
        raise ValueError(f"layer names {names}")
    if not 0 <= shape.bandwidth < shape.input_rate / 2 or shape.mapping_layers < 1 or shape.mapping_rate <= 0:
        raise ValueError(f"bandwidth {shape.bandwidth} at the rate {shape.input_rate}, or no mapping")
    before: tuple[int, int, float] = (shape.input_size, shape.input_channels, shape.input_rate)
    for layer in shape.layers:
        _check_layer(layer, is_last=layer is shape.layers[-1])
        if (layer.in_size, layer.in_channels, layer.in_rate) != before:
            given, taken = (
                f"{c}x{s} at rate {r:g}" for s, c, r in (before, (layer.in_size, layer.in_channels, layer.in_rate))
            )
            raise ValueError(f"layer {layer.name} takes {taken}, and gets {given}")
        before = (layer.out_size, layer.out_channels, layer.out_rate)
    if before[:2] != (shape.image_size, shape.image_channels):
        raise ValueError(f"images of {before[1]}x{before[0]}")


def _check_layer(layer: LayerShape, *, is_last: bool) -> None:
    counts = (layer.in_channels, layer.out_channels, layer.in_size, layer.out_size, layer.in_rate, layer.out_rate)
    if min(*counts, layer.kernel, layer.filter_size, layer.lrelu_upsampling) < 1:
        raise ValueError(f"layer {layer.name} has a size below 1")
    if layer.inner_rate % layer.in_rate or layer.inner_rate % layer.out_rate:
        raise ValueError(
            f"layer {layer.name} resamples from rate {layer.in_rate} to {layer.out_rate} by no whole factor"
        )
    bands = (layer.in_cutoff, layer.out_cutoff, layer.in_half_width, layer.out_half_width)
    if not all(0 < band <= layer.inner_rate for band in bands) or (layer.clamp is not None and layer.clamp <= 0):
        raise ValueError(f"layer {layer.name} has a cutoff, width or clamp that no filter can have")
    if layer.to_rgb != is_last:
        raise ValueError(f"layer {layer.name} makes the image, or the last one does not")


def make_shape(
    *,
    resolutions: tuple[int, ...],
    stem_layers: int,
    head_layers: int,
    classes: int,
    image_channels: int = 3,
    z_dim: int = 64,
    w_dim: int = 512,
    embed_dim: int = 320,
    channel_base: int = 32768,
    channel_max: int = 512,
    margin: int = 10,
    kernel: int = 3,
    radial: bool = False,
    num_critical: int = 2,
    first_cutoff: float = 2.0,
    first_stopband: float = 2**2.1,
    stopband_factor: float = 2**0.3,
    filter_size: int = 6,
) -> NetworkShape:
    """The shape of a stem of `resolutions[0]` pixels that was grown to each further resolution in turn.

    Args:
        resolutions: rising, the last one is the images'.
        stem_layers, head_layers: layers of the stem, and those each further resolution adds, besides the one to RGB.
        channel_base: channels are half of it divided by the cutoff, at most `channel_max`.
        margin: samples around the image at every layer but the last ones.
        num_critical: critically sampled layers at the end of each stage.
        first_cutoff, first_stopband: of the stem's first layer; `stopband_factor`: stopband over cutoff at the end.
    """
    layers: list[LayerShape] = []
    cutoff, stopband, rate = first_cutoff, first_stopband, None
    for stage, resolution in enumerate(resolutions):
        layers = [layer for layer in layers if not layer.critical]
        count = head_layers if stage else stem_layers
        exponents = [min(index / (count - num_critical), 1.0) for index in range(count + 1)]
        last = resolution / 2
        cutoffs = [cutoff * (last / cutoff) ** e for e in exponents]
        stopbands = [stopband * (last * stopband_factor / stopband) ** e for e in exponents]
        rates = [int(2 ** math.ceil(math.log2(min(2 * s, resolution)))) for s in stopbands]
        # A head begins where its stem ends: its first layer changes neither rate nor frequencies.
        rates[0] = rates[0] if rate is None else rate
        sizes = [r + 2 * margin for r in rates]
        sizes[-2:] = [resolution, resolution]
        channels = [max(1, round(min(channel_base / 2 / c, channel_max))) for c in cutoffs]
        channels[-1] = image_channels
        widths = [max(s, r / 2) - c for s, r, c in zip(stopbands, rates, cutoffs, strict=True)]
        # Numbers of a grown network skip one where the first head begins, as in the released ones.
        first_number = len(layers) + 1 if stage else 0
        for index, (before, here) in enumerate(pairwise((0, *range(count + 1)))):
            to_rgb = index == count
            layers.append(
                LayerShape(
                    name=f"L{first_number + index}_{sizes[here]}_{channels[here]}",
                    in_channels=channels[before],
                    out_channels=channels[here],
                    in_size=sizes[before],
                    out_size=sizes[here],
                    in_rate=rates[before],
                    out_rate=rates[here],
                    in_cutoff=cutoffs[before],
                    out_cutoff=cutoffs[here],
                    in_half_width=widths[before],
                    out_half_width=widths[here],
                    to_rgb=to_rgb,
                    critical=index >= count - num_critical,
                    kernel=1 if to_rgb else kernel,
                    filter_size=filter_size,
                    radial=radial,
                )
            )
        kept = count - num_critical - 1
        cutoff, stopband, rate = cutoffs[kept], stopbands[kept], rates[kept]
    first = layers[0]
    return NetworkShape(
        z_dim=z_dim,
        w_dim=w_dim,
        classes=classes,
        embed_dim=embed_dim if classes else 0,
        mapping_layers=2,
        mapping_rate=0.01,
        image_size=resolutions[-1],
        image_channels=image_channels,
        input_channels=first.in_channels,
        input_size=first.in_size,
        input_rate=float(first.in_rate),
        bandwidth=first_cutoff,
        output_scale=0.25,
        layers=tuple(layers),
    )

"""The shape of a StyleGAN-XL generator: all its numbers but the weights.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (StyleGAN3), NeurIPS 2021, section 3.2 and appendix B: layers
whose cutoff and stopband frequencies grow geometrically, the last ones critically sampled. Sauer, Schwarz and Geiger,
"StyleGAN-XL", SIGGRAPH 2022, section 3.2: progressive growing removes a stem's critically sampled layers and appends new ones
that continue from its last cutoff.

Frequencies and rates are in cycles per image width. The numbers of a released network are read from its file; `ShapeRules` is
for new networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import ConfigDict, Field, StrictBool

# Types of the numbers in `network.json`: JSON's own types without conversion, within a range.
_Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
_Count = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
_Real = Annotated[float, Field(strict=True, ge=0, lt=2**31, allow_inf_nan=False)]
_Positive = Annotated[float, Field(strict=True, gt=0, lt=2**31, allow_inf_nan=False)]

_FIRST_CUTOFF, _FIRST_STOPBAND = 2.0, 2**2.1  # of a stem's first layer
_STOPBAND_FACTOR = 2**0.3  # stopband over cutoff at the end of a stage
_NUM_CRITICAL = 2  # critically sampled layers at the end of a stage, besides the one to RGB


@dataclass(frozen=True)
class LayerShape:
    """One synthesis layer: modulated convolution, filtered leaky ReLU.

    Attributes:
        in_size, out_size: height and width of the features with their margin, in samples.
        in_rate, out_rate: sampling rates.
        in_cutoff, out_cutoff, in_half_width, out_half_width: of the low-pass filters' transition bands.
        to_rgb: the last layer, without demodulation, nonlinearity and filters.
        critical: critically sampled, with the cutoff at half the rate; removed when the network grows.
        filter_size: taps of a low-pass filter for each factor of resampling.
        radial: the downsampling filter is radially symmetric (jinc).
        clamp: bound of the activations.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: Annotated[str, Field(pattern=r"^L\w+$")]
    in_channels: _Count
    out_channels: _Count
    in_size: _Count
    out_size: _Count
    in_rate: _Count
    out_rate: _Count
    in_cutoff: _Positive
    out_cutoff: _Positive
    in_half_width: _Positive
    out_half_width: _Positive
    to_rgb: StrictBool = False
    critical: StrictBool = False
    kernel: _Count = 3
    filter_size: _Count = 6
    lrelu_upsampling: _Count = 2
    radial: StrictBool = False
    clamp: _Positive | None = 256.0

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
        """Taps of the upsampling filter; 1: no filter."""
        return self.filter_size * self.up if self.up > 1 and not self.to_rgb else 1

    @property
    def down_taps(self) -> int:
        """Taps of the downsampling filter; 1: no filter."""
        return self.filter_size * self.down if self.down > 1 and not self.to_rgb else 1

    @property
    def padding(self) -> tuple[int, int]:
        """Samples added before and after a row with zeros between its samples, negative ones cropped, to reach `out_size`."""
        convolved = self.in_size + self.kernel - 1  # the convolution pads each side by one less than its kernel
        total = (self.out_size - 1) * self.down + self.up_taps + self.down_taps - 1 - convolved * self.up
        # Half a sample of the coarse grid before the middle: filters of an even length shift by half a tap.
        before = (total + self.up) // 2
        return before, total - before


@dataclass(frozen=True)
class NetworkShape:
    """A whole generator.

    Attributes:
        z_dim, w_dim: lengths of the random vector and of a style.
        classes: of the training data; 0: unconditional.
        embed_dim: length of a class embedding before its projection to z_dim.
        mapping_layers: layers from z (and class) to w.
        mapping_rate: learning-rate multiplier of those layers, a factor of their weights.
        image_size: height and width of the images, in pixels.
        input_channels, input_size, input_rate, bandwidth: of the Fourier features.
        output_scale: factor of the last layer's output.

    Raises:
        ValueError: the layers do not fit together; the message names the layer. `TypeAdapter` checks the range of each field too.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    z_dim: _Count
    w_dim: _Count
    classes: _Whole
    embed_dim: _Whole
    mapping_layers: _Count
    mapping_rate: _Positive
    image_size: _Count
    image_channels: _Count
    input_channels: _Count
    input_size: _Count
    input_rate: _Positive
    bandwidth: _Real
    output_scale: _Real
    layers: tuple[LayerShape, ...]

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"layers have the names {names}: give each its own")
        if self.bandwidth >= self.input_rate / 2:
            raise ValueError(f"bandwidth {self.bandwidth} is not below half of input_rate {self.input_rate}")
        before: tuple[int, int, float] = (self.input_channels, self.input_size, self.input_rate)
        for layer in self.layers:
            takes = (layer.in_channels, layer.in_size, layer.in_rate)
            if takes != before:
                wanted, given = (f"{channels}x{size} at rate {rate:g}" for channels, size, rate in (takes, before))
                raise ValueError(f"layer {layer.name} takes {wanted}, and gets {given}")
            if layer.inner_rate % layer.in_rate or layer.inner_rate % layer.out_rate:
                raise ValueError(f"layer {layer.name} resamples {layer.in_rate} to {layer.out_rate} by no whole factor")
            if max(layer.in_cutoff, layer.out_cutoff, layer.in_half_width, layer.out_half_width) > layer.inner_rate:
                raise ValueError(f"layer {layer.name} has a cutoff or half width above the rate {layer.inner_rate}")
            if layer.to_rgb != (layer is self.layers[-1]):
                raise ValueError(f"layer {layer.name} has to_rgb {layer.to_rgb}: it is true for the last layer alone")
            before = (layer.out_channels, layer.out_size, layer.out_rate)
        if before[:2] != (self.image_channels, self.image_size):
            made, wanted = f"{before[0]}x{before[1]}", f"{self.image_channels}x{self.image_size}"
            raise ValueError(f"layers make images of {made} (channels, size), not {wanted}")

    @property
    def num_ws(self) -> int:
        """Styles of an image: one for the input, one for each layer."""
        return len(self.layers) + 1

    @property
    def half_resolution_layer(self) -> int:
        """The second of the layers that features of half of the image's resolution enter, or the only one.

        GLaD publishes it for DC at 128 pixels: layer 16. Without such layers, of those at the next lower resolution; without
        these, at the lowest there is.
        """
        rates = [layer.in_rate for layer in self.layers]
        chosen = max((rate for rate in rates if 2 * rate <= self.image_size), default=min(rates))
        which = [number for number, rate in enumerate(rates) if rate == chosen]
        return which[:2][-1]


class _Signal(NamedTuple):
    """Features (channels, size, size) between two layers; their filter passes up to `cutoff` and stops from `stopband`."""

    channels: int
    size: int
    rate: int
    cutoff: float
    half_width: float
    stopband: float

    def fields(self, side: str) -> dict[str, Any]:
        """The fields of `LayerShape` that begin with `side`, `in` or `out`."""
        return {f"{side}_{name}": value for name, value in self._asdict().items() if name != "stopband"}


@dataclass(frozen=True, kw_only=True)
class ShapeRules:
    """The numbers from which `make_shape` derives the layers.

    Attributes:
        resolutions: of the stem, and of each stage that it grows by in turn; in pixels, the last one is that of the images.
        stem_layers, head_layers: layers of the stem, and of each further stage, besides the one to RGB.
        channel_base: a layer has channel_base / 2 / cutoff channels, at most `channel_max`.
        margin: samples around the image at every layer but the last two of a stage.
        radial: use radially symmetric filters for downsampling.
    """

    resolutions: tuple[int, ...]
    stem_layers: int
    head_layers: int = 0
    image_channels: int = 3
    channel_base: int = 32768
    channel_max: int = 512
    margin: int = 10
    radial: bool = False

    def layers(self) -> tuple[LayerShape, ...]:
        """The layers of all stages; each stage replaces the critically sampled layers of the one before it."""
        layers: list[LayerShape] = []
        start: _Signal | None = None
        for stage, resolution in enumerate(self.resolutions):
            count = self.head_layers if stage else self.stem_layers
            signals = [self._signal(index, count, resolution, start) for index in range(count + 1)]
            layers = [layer for layer in layers if not layer.critical]
            # Numbers of a grown network skip one where the first head begins, as in the released ones.
            number = len(layers) + 1 if stage else 0
            for index, (before, after) in enumerate(pairwise((signals[0], *signals))):
                layers.append(
                    LayerShape(
                        name=f"L{number + index}_{after.size}_{after.channels}",
                        to_rgb=index == count,
                        critical=count - index <= _NUM_CRITICAL,
                        kernel=1 if index == count else 3,
                        radial=self.radial,
                        **before.fields("in"),
                        **after.fields("out"),
                    )
                )
            start = signals[count - _NUM_CRITICAL - 1]
        return tuple(layers)

    def _signal(self, index: int, count: int, resolution: int, start: _Signal | None) -> _Signal:
        """The input of layer `index` of a stage with `count` layers before the one to RGB; `start`: what it continues."""
        cutoff, stopband = (start.cutoff, start.stopband) if start else (_FIRST_CUTOFF, _FIRST_STOPBAND)
        share, last = min(index / (count - _NUM_CRITICAL), 1.0), resolution / 2
        cutoff *= (last / cutoff) ** share
        stopband *= (last * _STOPBAND_FACTOR / stopband) ** share
        rate = int(2 ** math.ceil(math.log2(min(2 * stopband, resolution))))
        if start and index == 0:
            rate = start.rate  # the first layer of a head changes neither rate nor frequencies
        size = resolution if index >= count - 1 else rate + 2 * self.margin
        width = max(1, round(min(self.channel_base / 2 / cutoff, self.channel_max)))
        channels = self.image_channels if index == count else width
        return _Signal(channels, size, rate, cutoff, max(stopband, rate / 2) - cutoff, stopband)


def make_shape(
    *, classes: int = 0, z_dim: int = 64, w_dim: int = 512, embed_dim: int = 320, **rules: Any
) -> NetworkShape:
    """Derive the shape of a network; `rules` are the fields of `ShapeRules`, the others those of `NetworkShape`."""
    layers = ShapeRules(**rules).layers()
    return NetworkShape(
        z_dim=z_dim,
        w_dim=w_dim,
        classes=classes,
        embed_dim=embed_dim if classes else 0,
        mapping_layers=2,
        mapping_rate=0.01,
        image_size=layers[-1].out_size,
        image_channels=layers[-1].out_channels,
        input_channels=layers[0].in_channels,
        input_size=layers[0].in_size,
        input_rate=float(layers[0].in_rate),
        bandwidth=_FIRST_CUTOFF,
        output_scale=0.25,
        layers=layers,
    )

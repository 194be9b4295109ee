"""Low-pass filters, and resampling with them.

Source: StyleGAN3, section 3.2 and appendix B: windowed-sinc (Kaiser) filters and radially symmetric jinc filters. The window that
gives a width of the transition band is estimated as in Oppenheim and Schafer, "Discrete-Time Signal Processing".

Separable filters are applied to one axis after the other as depthwise convolutions, which are fastest with the channels innermost
in memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_Pair = tuple[int, int]


def design_filter(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> Tensor | None:
    """Design a low-pass filter of unit sum: (taps,), or (taps, taps) if `radial`; None for one tap, which filters nothing.

    Args:
        cutoff: in cycles per image width, as `width` and `rate`.
        width: of the transition band.
        rate: at which the filter is sampled.

    Two taps lie symmetrically around the middle, so they are equal.

    >>> design_filter(2, 1.0, 1.0, 4.0).tolist()
    [0.5, 0.5]
    """
    if taps == 1:
        return None
    window = _kaiser(taps, width / (rate / 2))
    at = (torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2) / rate
    if not radial:
        kernel = torch.sinc(2 * cutoff * at) * window
        return (kernel / kernel.sum()).float()
    radius = torch.hypot(at[:, None], at[None, :])
    # The transform of a disc. An odd number of taps has one in the middle, where the formula needs its limit.
    jinc = torch.special.bessel_j1(2 * math.pi * cutoff * radius) / (math.pi * radius)
    jinc = torch.where(radius == 0, torch.tensor(cutoff, dtype=torch.float64), jinc)
    disc = jinc * window[:, None] * window[None, :]
    return (disc / disc.sum()).float()


def _kaiser(taps: int, width: float) -> Tensor:
    """Kaiser window (taps,) for a transition band of `width` times half the sampling rate."""
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95  # dB
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)


def filter_up(images: Tensor, kernel: Tensor, factor: int, padding: tuple[int, int]) -> Tensor:
    """Upsample: put zeros between samples, pad or crop, filter each axis and keep the amplitude.

    Args:
        images: (n, c, h, h).
        kernel: (taps,).
        padding: samples added before and after at the finer rate; negative ones are cropped.

    Returns:
        (n, c, H, H) with H = h·factor + sum(padding) − taps + 1.
    """
    # A transposed convolution skips the zeros. It returns every window that overlaps; the outer ones are cropped.
    start, out = len(kernel) - 1 - padding[0], images.shape[-1] * factor + sum(padding) - len(kernel) + 1
    crop = max(0, min(start, (images.shape[-1] - 1) * factor + len(kernel) - start - out))
    for axis in (3, 2):
        weight = _depthwise((kernel * factor).view(_along(axis, -1, 1)), images)
        images = _Convolution.apply(images, weight, _along(axis, factor, 1), _along(axis, crop, 0), (0, 0))
    before, after = crop - start, out - (images.shape[-1] + crop - start)
    return F.pad(images, (before, after, before, after)) if before or after else images


def filter_down(images: Tensor, kernel: Tensor, factor: int) -> Tensor:
    """Downsample: filter images (n, c, H, H) without padding and keep every `factor`-th sample of each axis.

    Args:
        kernel: (taps,) for each axis, or (taps, taps) for both at once.

    Returns:
        (n, c, h, h) with h = (H − taps) // factor + 1.
    """
    if kernel.ndim == 2:
        weight = _depthwise(kernel.flip(0, 1), images)
        return _Convolution.apply(images, weight, (factor, factor), (0, 0))  # type: ignore[no-any-return]
    for axis in (3, 2):
        weight = _depthwise(kernel.flip(0).view(_along(axis, -1, 1)), images)
        images = _Convolution.apply(images, weight, _along(axis, factor, 1), (0, 0))
    return images


def _along(axis: int, value: int, other: int) -> tuple[int, int]:
    """(rows, columns) with `value` for the filtered axis."""
    return (other, value) if axis == 3 else (value, other)


class _Convolution(torch.autograd.Function):
    """A strided depthwise convolution, or its transpose, that saves no images for the backward pass.

    The filters are constants, so the gradient of each is the other one, applied to the gradient; autograd's own convolution
    would save its input, which is the largest tensor of a layer.

    Args:
        rest: samples at the end of an axis that no window reaches; the transpose adds them.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, rest: _Pair | None = None
    ) -> Tensor:
        ctx.save_for_backward(weight)
        transposed = rest is not None
        sides = zip(images.shape[2:], weight.shape[2:], stride, padding, strict=True)
        reached = tuple((size + 2 * pad - taps) % step for size, taps, step, pad in sides)
        ctx.transpose = (stride, padding) if transposed else (stride, padding, reached)
        # In the images' own precision: autocast is on in the forward pass and off in the backward, and both must agree.
        with torch.autocast(images.device.type, enabled=False):
            return torch.convolution(
                images, weight, None, stride, padding, (1, 1), transposed, rest or (0, 0), images.shape[1]
            )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        return _Convolution.apply(grads[0], weight, *ctx.transpose), None, None, None, None


def _depthwise(kernel: Tensor, images: Tensor) -> Tensor:
    """Repeat a kernel (h, w) for every channel: (c, 1, h, w)."""
    return kernel.to(images.dtype).expand(images.shape[1], 1, *kernel.shape).contiguous()

"""Mean and standard deviation of training images."""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.data.numbered_images import NumberedImages
from ld3m_plugin.randomness import stream
from ld3m_plugin.task import ImagesByClass

#: Images to read; enough for three digits.
SAMPLE = 2000
_READ_AT_ONCE = 256

#: One grey level: equal pixels have no deviation, and dividing by zero would make every image NaN.
SMALLEST_STD = 1 / 255


def channel_statistics(images: ImagesByClass, sample: int = SAMPLE) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over pixels scaled to [0, 1].

    Reads at most `sample` images, drawn from a stream of their own, so that the result repeats. Computed from histograms,
    which is exact and needs no float copy of the images.

    Returns:
        (mean, std), C numbers each.
    """
    numbered = NumberedImages(images)
    chosen = torch.randperm(len(numbered), generator=stream(0, "statistics"))[:sample].sort().values
    histogram = torch.stack([_histogram(numbered.read(part)[0]) for part in chosen.split(_READ_AT_ONCE)]).sum(0)
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = histogram / histogram.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).clamp_min(0).sqrt().clamp_min(SMALLEST_STD)
    return tuple(mean.tolist()), tuple(std.tolist())


def _histogram(images: Tensor) -> Tensor:
    """Counts (C, 256) of the grey levels of uint8 images (n, C, H, W)."""
    channels = images.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in channels]).double()

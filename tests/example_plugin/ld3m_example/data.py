"""A data set with options of its own."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import ImageOptions, ImagesByClass, Task, takes


class StripesOptions(ImageOptions):
    """`-D per_class=20 -D noise=0.2`. `image_size`, `grayscale` and `root` come from the base class."""

    per_class: int = Field(24, ge=2, description="training images of each class; half as many test images")
    noise: float = Field(0.1, ge=0, le=1, description="standard deviation of the noise, as a share of white")


class Stripes(ImagesByClass):
    """Vertical stripes (class 0) and horizontal ones (class 1), as uint8 (n, C, H, W), drawn when they are read."""

    def __init__(self, count: int, channels: int, size: int, noise: float, seed: int) -> None:
        self.origin = "example-stripes"
        self._count, self._shape, self._noise, self._seed = count, (channels, size, size), noise, seed

    def counts(self) -> tuple[int, ...]:
        return (self._count, self._count)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        wave = (torch.arange(self._shape[-1]) % 4 < 2).float().expand(self._shape)
        clean = wave if class_index == 0 else wave.transpose(1, 2)
        return torch.stack([self._noisy(clean, class_index, int(number)) for number in which])

    def _noisy(self, clean: Tensor, class_index: int, number: int) -> Tensor:
        # An image depends on its number alone, so that it is the same whenever it is read.
        rng = torch.Generator().manual_seed(self._seed + 2 * number + class_index)
        noisy = clean + self._noise * torch.randn(clean.shape, generator=rng)
        return (255 * noisy.clamp(0, 1)).round().to(torch.uint8)


@takes(StripesOptions)
def load_stripes(argument: str, options: StripesOptions) -> Task:
    """Noisy stripes in two directions; it takes no argument."""
    size, channels = options.image_size or 16, 1 if options.grayscale is not False else 3
    train, test = (
        Stripes(count, channels, size, options.noise, seed)
        for count, seed in ((options.per_class, 0), (options.per_class // 2, 1_000_000))
    )
    return Task(
        name="example-stripes",
        source=f"drawn, {options.per_class} a class",
        class_names=("vertical", "horizontal"),
        wordnet_ids=(None, None),
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        image_size=size,
        train=train,
        test_images=test,
    )

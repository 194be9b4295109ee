"""Differentiable siamese augmentation (DSA): one operation for a call, the same numbers for real and synthetic images.

Source: Zhao & Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation; ranges as in the published
code.

What Kornia (0.8 and 0.9) does that a caller must know; `tests/augmentation/test_kornia_traps.py` has a test for each:

- Replaying `params=` on a batch of another size fails, also with `same_on_batch=True`. A siamese draw here holds the
  parameters of one image, and every operation broadcasts them to the batch it meets.
- Concatenating two batches under `same_on_batch=True` gives all images the same transform. A siamese draw applied to
  the two batches in turn gives the same result without the copy.
- `RandomBrightness` and its relatives clip to [0, 1] by default: a clipped pixel has gradient 0, and even the identity
  setting changes a normalised image. The operations here never clip.
- Parameters come from torch's global random stream, and no generator can be passed. `DSA.draw` lends the global stream
  the caller's `rng` and puts it back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ld3m_plugin.augmentation.color import DSAColor
from ld3m_plugin.augmentation.cutout import DSACutout
from ld3m_plugin.augmentation.geometric import DSACrop, DSAFlip, DSARotate, DSAScale
from ld3m_plugin.errors import InvalidOptionError, nearest
from ld3m_plugin.randomness import lent_to_global

IDENTITY = "none"
Operation = DSAColor | DSACrop | DSACutout | DSAFlip | DSAScale | DSARotate
OPERATIONS: Mapping[str, Callable[[], Operation]] = {
    "color": DSAColor,
    "crop": DSACrop,
    "cutout": DSACutout,
    "flip": DSAFlip,
    "scale": DSAScale,
    "rotate": DSARotate,
}


@dataclass(frozen=True)
class DSADraw:
    """One operation and its numbers, ready to be applied any number of times.

    Attributes:
        operation: a name of the strategy, or "none".
        size: (H, W) of the images it was drawn for.
        images: how many images it was drawn for; None for a siamese draw, which fits any number.
        parameters: name -> (images,), or (1,) for a siamese draw; on the CPU.
    """

    operation: str
    size: tuple[int, int]
    images: int | None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def siamese(self) -> bool:
        """Whether all images share one set of numbers."""
        return self.images is None


class DSA(nn.Module):
    """Draws one operation of the strategy for each call and applies it, differentiably, to normalised images.

    The siamese use, on batches of unequal size:

    >>> dsa, rng = DSA("color_crop"), torch.Generator().manual_seed(0)
    >>> real, synthetic = torch.zeros(256, 3, 32, 32), torch.zeros(10, 3, 32, 32)
    >>> draw = dsa.draw(real.shape, rng, siamese=True)
    >>> dsa.apply(real, draw).shape[0], dsa.apply(synthetic, draw).shape[0]
    (256, 10)

    Args:
        strategy: names out of color, crop, cutout, flip, scale and rotate, joined by `_`, in any order, each once; the
            operation of a call is uniform over them. An empty string or "none" leaves images as they are.

    Raises:
        InvalidOptionError: a name that is not known or is repeated.
    """

    def __init__(self, strategy: str = "color_crop_cutout_flip_scale_rotate") -> None:
        super().__init__()
        self.strategy = strategy
        self.names = parse(strategy)
        # a plain dict: the operations have neither weights nor state that a module would have to move or save
        self.operations: dict[str, Operation] = {name: OPERATIONS[name]() for name in self.names}

    def forward(self, images: Tensor, *, rng: torch.Generator, siamese: bool = False) -> Tensor:
        """`images` (B, C, H, W) under a new draw: numbers of its own for each image unless `siamese`."""
        return self.apply(images, self.draw(images.shape, rng, siamese=siamese))

    def draw(self, shape: Sequence[int], rng: torch.Generator, *, siamese: bool) -> DSADraw:
        """Which operation, and its parameters, for images of `shape` (B, C, H, W).

        Args:
            rng: the stream to draw from, on the CPU; the global stream is left as it was found.
            siamese: one set of numbers for all images, of this and of any other batch.
        """
        batch, channels, height, width = shape
        images = None if siamese else batch
        if not self.names:
            return DSADraw(IDENTITY, (height, width), images)
        name = self.names[int(torch.randint(len(self.names), (), generator=rng))]
        with lent_to_global(rng):
            parameters = self.operations[name].generate_parameters((1 if siamese else batch, channels, height, width))
        return DSADraw(name, (height, width), images, parameters)

    def apply(self, images: Tensor, draw: DSADraw) -> Tensor:  # type: ignore[override]
        """`images` (B, C, H, W) under `draw`. Pure: the same images and draw give the same result.

        It takes the place of `nn.Module.apply(function)`, which has nothing to visit here: there are no submodules.

        Raises:
            ValueError: a draw for images of another size, for another number of images, or by another strategy.
        """
        _check(images, draw)
        if draw.operation == IDENTITY:
            return images
        if draw.operation not in self.operations:
            raise ValueError(f"{draw.operation!r} was not drawn by the strategy {self.strategy!r}")
        operation = self.operations[draw.operation]
        # What kornia's forward would call; its bookkeeping (matrices, gates) costs more than most of the operations.
        return operation.apply_transform(images, draw.parameters, operation.flags)

    def extra_repr(self) -> str:
        return f"strategy={self.strategy!r}"


def parse(strategy: str) -> tuple[str, ...]:
    """The operations that `strategy` names, in its order; none for an empty string or "none".

    >>> parse("flip_rotate")
    ('flip', 'rotate')

    Raises:
        InvalidOptionError: a name that is not known or is repeated.
    """
    if strategy in ("", IDENTITY):
        return ()
    names = tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS:
            raise InvalidOptionError(
                f"augmentation strategy {strategy!r} has no operation {name!r}; {nearest(name, OPERATIONS)}"
            )
        if names.count(name) > 1:
            raise InvalidOptionError(f"augmentation strategy {strategy!r} names {name!r} more than once")
    return names


def _check(images: Tensor, draw: DSADraw) -> None:
    if images.ndim != 4 or tuple(images.shape[-2:]) != draw.size:
        raise ValueError(f"a draw for images of {draw.size} pixels does not fit images {tuple(images.shape)}")
    if draw.images is not None and draw.images != images.shape[0]:
        raise ValueError(
            f"a draw for {draw.images} images does not fit a batch of {images.shape[0]}; a siamese draw fits any batch"
        )

"""Differentiable siamese augmentation (DSA): one operation per call, the same numbers for real and synthetic images.

Source: Zhao & Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation; ranges as in the published
code.

Traps of Kornia (0.8 and 0.9), each with a test in `tests/augmentation/test_kornia_traps.py`:

- Replaying `params=` on a batch of another size fails, also with `same_on_batch=True`. A siamese draw here holds the
  parameters of one image, and every operation broadcasts them to the batch it meets.
- Concatenating two batches under `same_on_batch=True` gives all images the same transform. A siamese draw applied to
  the two batches in turn gives the same result without the copy.
- `RandomBrightness` and its relatives clip to [0, 1] by default: a clipped pixel has gradient 0, and even the identity
  setting changes a normalised image. The operations here never clip.
- Parameters come from torch's global random stream, and no generator can be passed. `DSA.draw` makes the global stream
  continue the caller's `rng`, then restores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ld3m_plugin.augmentation.parameters import Operation
from ld3m_plugin.augmentation.strategy_names import FULL, IDENTITY
from ld3m_plugin.backends import conforming
from ld3m_plugin.errors import InvalidOptionError, nearest
from ld3m_plugin.randomness import lent_to_global
from ld3m_plugin.registry import current_registry


@dataclass(frozen=True)
class DSADraw:
    """One operation and its parameters, which can be applied any number of times.

    Attributes:
        operation: a name of the strategy, or "none".
        size: (H, W) of the images it was drawn for.
        images: number of images it was drawn for; None for a siamese draw, which fits any number.
        parameters: name -> (images,), or (1,) for a siamese draw; on the CPU.
    """

    operation: str
    size: tuple[int, int]
    images: int | None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def siamese(self) -> bool:
        """Whether all images share one set of parameters."""
        return self.images is None


class DSA(nn.Module):
    """Draw one operation of the strategy for each call and apply it, differentiably, to normalised images.

    The siamese use, on batches of unequal size:

    >>> dsa, rng = DSA("color_crop"), torch.Generator().manual_seed(0)
    >>> real, synthetic = torch.zeros(256, 3, 32, 32), torch.zeros(10, 3, 32, 32)
    >>> draw = dsa.draw(real.shape, rng, siamese=True)
    >>> dsa.apply(real, draw).shape[0], dsa.apply(synthetic, draw).shape[0]
    (256, 10)

    Args:
        strategy: names out of color, crop, cutout, flip, scale and rotate, joined by `_`, in any order, each once; the
            operation of a call is uniform over them. An empty string or "none" leaves images unchanged.

    Raises:
        InvalidOptionError: a name is unknown or repeated.
    """

    def __init__(self, strategy: str = FULL) -> None:
        super().__init__()
        self.strategy = strategy
        self.names = parse(strategy)
        # A plain dict, not submodules: the operations have no weights or state to move or save.
        self.operations: dict[str, Operation] = {
            name: conforming("augmentation", name, current_registry().resolve("augmentation", name)(), Operation)
            for name in self.names
        }

    def forward(self, images: Tensor, *, rng: torch.Generator, siamese: bool = False) -> Tensor:
        """`images` (B, C, H, W) under a new draw, with separate parameters for each image unless `siamese`."""
        return self.apply(images, self.draw(images.shape, rng, siamese=siamese))

    def draw(self, shape: Sequence[int], rng: torch.Generator, *, siamese: bool) -> DSADraw:
        """Draw an operation and its parameters for images of `shape` (B, C, H, W).

        Args:
            rng: the stream to draw from, on the CPU; the global stream is left unchanged.
            siamese: draw one set of parameters for all images, of this and of any other batch.
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

        Overrides `nn.Module.apply(function)`, which would visit submodules: there are none.

        Raises:
            ValueError: the draw is for another image size or number of images, or from another strategy.
        """
        if images.ndim != 4 or tuple(images.shape[-2:]) != draw.size:
            raise ValueError(f"a draw for images of {draw.size} pixels does not fit images {tuple(images.shape)}")
        if draw.images not in (None, len(images)):
            raise ValueError(
                f"a draw for {draw.images} images does not fit a batch of {len(images)}; a siamese draw fits any batch"
            )
        if draw.operation == IDENTITY:
            return images
        if draw.operation not in self.operations:
            raise ValueError(f"{draw.operation!r} was not drawn by the strategy {self.strategy!r}")
        # Kornia's forward ends in the same call; its bookkeeping costs more than most of the operations.
        return self.operations[draw.operation].augment(images, draw.parameters)

    def extra_repr(self) -> str:
        return f"strategy={self.strategy!r}"


def parse(strategy: str) -> tuple[str, ...]:
    """Operations that `strategy` names, in its order; none for an empty string or "none".

    >>> parse("flip_rotate")
    ('flip', 'rotate')

    Raises:
        InvalidOptionError: a name is unknown or repeated.
    """
    if strategy in ("", IDENTITY):
        return ()
    names, known = tuple(strategy.split("_")), current_registry().names("augmentation")
    for name in names:
        if name not in known:
            raise InvalidOptionError(
                f"augmentation strategy {strategy!r} has no operation {name!r}; {nearest(name, known)}"
            )
        if names.count(name) > 1:
            raise InvalidOptionError(f"augmentation strategy {strategy!r} names {name!r} more than once")
    return names

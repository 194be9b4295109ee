"""From latents to images and back: the only place where a generator is differentiated.

The objective returns dloss/dimages, and this module pulls it back to the latents, in the same way for every generator. Where
all rows fit in memory, the graph of the one render is kept and used. So are the graphs of all chunks, if the generator keeps
little in them and recomputes the rest. Otherwise, chunks are first rendered without a graph, and in the backward pass each is
rendered again with one. All ways are exact, because `Generator.render` is deterministic and row-wise independent. In chunks,
memory for activations does not grow with N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ld3m_plugin.contracts import Generator, Latents
from ld3m_plugin.errors import WrongResultError

Precision = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Rendering:
    """Rendered images, and the function that differentiates them.

    Attributes:
        images: (N·r, C, H, W) float32, a leaf that requires gradients; r is the generator's `images_per_latent`.
        pull_back: takes dloss/dimages (N·r, C, H, W), returns dloss/dlatent of each learned latent, by name. Call it once.
    """

    images: Tensor
    pull_back: Callable[[Tensor], dict[str, Tensor]]


def render(
    generator: Generator, latents: Latents, chunk: int | None = None, precision: Precision = nullcontext
) -> Tensor:
    """Render images (N·r, C, H, W) without a graph, `chunk` latent rows at a time (None: all)."""
    # What a network keeps for later passes must be no inference tensor, which no graph takes.
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat([_images(generator, latents.rows(rows), precision) for rows in _slices(len(latents), chunk)])


def render_with_pull_back(
    generator: Generator, latents: Latents, chunk: int | None = None, precision: Precision = nullcontext
) -> Rendering:
    """Render images that a gradient can be pulled back through, to the latents.

    Args:
        chunk: latent rows rendered at a time; None, or at least N: all of them, with one graph.
        precision: makes the context (autocast) in which the generator runs.
    """
    slices = _slices(len(latents), chunk)
    if len(slices) > 1 and not generator.recomputes(latents):
        images = render(generator, latents, chunk, precision).requires_grad_()
        again = (_with_graph(generator, latents.rows(rows), precision) for rows in slices)
        return Rendering(images, partial(_pull_back, again))
    parts = [_with_graph(generator, latents.rows(rows), precision) for rows in slices]
    # A copy: the pixel generator's images are its latents, which an objective must not be able to change.
    images = torch.cat([part.detach() for part, _ in parts]).requires_grad_()
    return Rendering(images, partial(_pull_back, _taken(parts)))


def _pull_back(parts: Iterator[tuple[Tensor, Latents]], image_grad: Tensor) -> dict[str, Tensor]:
    """dloss/dlatent of parts that follow each other, made or taken one at a time."""
    gradients, start = [], 0
    for images, leaves in parts:
        gradients.append(_gradients(images, leaves, image_grad[start : start + len(images)]))
        start += len(images)
        del images, leaves  # before the next part is made
    return {name: torch.cat([part[name] for part in gradients]) for name in gradients[0]}


def _taken(parts: list[tuple[Tensor, Latents]]) -> Iterator[tuple[Tensor, Latents]]:
    """Give the parts in order and forget each."""
    while parts:
        yield parts.pop(0)


def _with_graph(generator: Generator, latents: Latents, precision: Precision) -> tuple[Tensor, Latents]:
    """Images with their graph, and the leaves it starts from."""
    leaves = latents.detach(requires_grad=True)
    with torch.enable_grad():
        return _images(generator, leaves, precision), leaves


def _gradients(images: Tensor, leaves: Latents, image_grad: Tensor) -> dict[str, Tensor]:
    """dloss/dlatent by name. A learned latent without a path to the images is a mistake of the generator and is named."""
    names = sorted(leaves.learned)
    gradients: tuple[Tensor | None, ...] = (None,) * len(names)
    if images.requires_grad:
        gradients = torch.autograd.grad(images, [leaves[name] for name in names], image_grad, allow_unused=True)
    found = {name: gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    unused = [name for name in names if name not in found]
    if unused:
        raise WrongResultError(
            f"the rendered images do not depend differentiably on the learned latent {', '.join(unused)}"
        )
    return found


def _images(generator: Generator, latents: Latents, precision: Precision) -> Tensor:
    with precision():
        images = generator.render(latents)
    expected = len(latents) * generator.images_per_latent
    if not isinstance(images, Tensor):
        raise WrongResultError(
            f"{type(generator).__name__}.render gave a {type(images).__name__}, not a tensor of images"
        )
    if images.ndim != 4 or len(images) != expected:
        raise WrongResultError(
            f"{type(generator).__name__}.render gave images of shape {tuple(images.shape)} "
            f"for {len(latents)} latent rows; it must give ({expected}, C, H, W)"
        )
    # Half precision is what autocast gives; who computes with latents in double precision gets images of it.
    own = {latents[name].dtype for name in latents.learned}
    if images.dtype not in {torch.float32, torch.bfloat16, torch.float16, *own}:
        raise WrongResultError(f"{type(generator).__name__}.render gave images of {images.dtype}; they must be float32")
    return images.float()


def _slices(rows: int, chunk: int | None) -> list[slice]:
    size = rows if chunk is None else chunk
    return [slice(start, start + size) for start in range(0, rows, size)]

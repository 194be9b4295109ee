"""From latents to images and back: the only place where a generator is differentiated.

The objective returns dloss/dimages, and this module pulls it back to the latents, in the same way for every generator. Where all
rows fit in memory, the graph of the one render is kept and used. In chunks, images are first rendered without a graph, and in
the backward pass each chunk is rendered again with one. That is exact, because `Generator.render` is deterministic and row-wise
independent, and memory does not grow with N.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ld3m_plugin.contracts import Generator, Latents
from ld3m_plugin.errors import HostError

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
    with torch.no_grad():
        return torch.cat([_images(generator, latents.rows(rows), precision) for rows in _slices(len(latents), chunk)])


def render_with_pull_back(
    generator: Generator, latents: Latents, chunk: int | None = None, precision: Precision = nullcontext
) -> Rendering:
    """Render images that a gradient can be pulled back through, to the latents.

    Args:
        chunk: latent rows rendered at a time; None, or at least N, keeps one graph and renders once.
        precision: makes the context (autocast) in which the generator runs.
    """
    if chunk is None or chunk >= len(latents):
        leaves = latents.detach(requires_grad=True)
        with torch.enable_grad():
            images = _images(generator, leaves, precision)
        # A copy: the pixel generator's images are its latents, which an objective must not be able to change.
        return Rendering(images.detach().clone().requires_grad_(), lambda grad: _gradients(images, leaves, grad))

    def pull_back(image_grad: Tensor) -> dict[str, Tensor]:
        parts: list[dict[str, Tensor]] = []
        for rows in _slices(len(latents), chunk):
            leaves = latents.rows(rows).detach(requires_grad=True)
            with torch.enable_grad():
                images = _images(generator, leaves, precision)
            r = generator.images_per_latent
            parts.append(_gradients(images, leaves, image_grad[rows.start * r : rows.stop * r]))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return Rendering(render(generator, latents, chunk, precision).requires_grad_(), pull_back)


def _gradients(images: Tensor, leaves: Latents, image_grad: Tensor) -> dict[str, Tensor]:
    """dloss/dlatent by name. A learned latent without a path to the images is a mistake of the generator and is named."""
    names = sorted(leaves.learned)
    gradients: tuple[Tensor | None, ...] = (None,) * len(names)
    if images.requires_grad:
        gradients = torch.autograd.grad(images, [leaves[name] for name in names], image_grad, allow_unused=True)
    found = {name: gradient for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
    unused = [name for name in names if name not in found]
    if unused:
        raise HostError(f"the rendered images do not depend differentiably on the learned latent {', '.join(unused)}")
    return found


def _images(generator: Generator, latents: Latents, precision: Precision) -> Tensor:
    with precision():
        images = generator.render(latents)
    expected = len(latents) * generator.images_per_latent
    if not isinstance(images, Tensor):
        raise HostError(f"{type(generator).__name__}.render gave a {type(images).__name__}, not a tensor of images")
    if images.ndim != 4 or len(images) != expected:
        raise HostError(
            f"{type(generator).__name__}.render gave images of shape {tuple(images.shape)} "
            f"for {len(latents)} latent rows; it must give ({expected}, C, H, W)"
        )
    # Half precision is what autocast gives; who computes with latents in double precision gets images of it.
    own = {latents[name].dtype for name in latents.learned}
    if images.dtype not in {torch.float32, torch.bfloat16, torch.float16, *own}:
        raise HostError(f"{type(generator).__name__}.render gave images of {images.dtype}; they must be float32")
    return images.float()


def _slices(rows: int, chunk: int | None) -> list[slice]:
    size = rows if chunk is None else chunk
    return [slice(start, start + size) for start in range(0, rows, size)]

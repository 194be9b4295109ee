"""Images in a caller's graph: a gradient that reaches them is pulled back to the latents by `distillation/rendering.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator, Latents, Task
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.distillation.first_latents import precision
from ld3m_plugin.distillation.rendering import Rendering, render_with_pull_back
from ld3m_plugin.errors import HostError
from ld3m_plugin.registry import Registry, blaming, use_registry


class Rendered:
    """Images of latents as they are now. It holds nothing of the module that asked: no circle keeps memory.

    Args:
        latents: leaves that share storage with the parameters.
        make: renders them, with what differentiates that.

    """

    def __init__(self, latents: Latents, make: Callable[[Latents], Rendering]) -> None:
        self._latents, self._make = latents, make
        self._versions = versions(latents)
        self._rendering: Rendering | None = make(latents)
        self.images = self._rendering.images.detach()

    def is_fresh(self) -> bool:
        """Whether nothing was pulled back or changed since; after a pull-back, another one renders again."""
        return self._rendering is not None and not self.images._version and versions(self._latents) == self._versions

    def gradients(self, image_grad: Tensor) -> tuple[Tensor, ...]:
        """dloss/dlatent of the learned latents, in the order of their names."""
        if versions(self._latents) != self._versions:
            raise HostError(
                "the latents have changed since these images were rendered, and a gradient at the former ones cannot be had any "
                "more: call loss.backward() before step(), and images = syn() after it"
            )
        rendering = self._rendering or self._make(self._latents)
        self._rendering = None
        found = rendering.pull_back(image_grad)
        return tuple(found[name] for name in sorted(found))


class PulledBack(Function):
    """The images of a `Rendered`, as a function of the learned latents in the order of their names."""

    @staticmethod
    def forward(ctx: Any, rendered: Rendered, *_: Tensor) -> Tensor:
        ctx.rendered = rendered
        return rendered.images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, image_grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.rendered.gradients(image_grad)


def versions(latents: Latents) -> list[int]:
    """How often each learned latent was changed in place."""
    return [latents[name]._version for name in sorted(latents.learned)]


def rendered_by(generator: Generator, config: RunConfig, task: Task, registry: Registry, latents: Latents) -> Rendering:
    """Render with a pull-back that runs in the same settings, whatever is set when the backward pass comes."""
    name = config.generator.name
    with use_registry(registry), tf32(config.tf32, task.device), blaming("generator", name, "render"):
        rendering = render_with_pull_back(generator, latents, config.render_batch, precision(config, task.device))

    def pull_back(image_grad: Tensor) -> dict[str, Tensor]:
        with (
            use_registry(registry),
            tf32(config.tf32, task.device),
            blaming("generator", name, "render (its gradient)"),
        ):
            return rendering.pull_back(image_grad)

    return Rendering(rendering.images, pull_back)

"""A caller's `nn.Module` as a generator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ld3m_plugin.contracts import Generator, Latents, Task
from ld3m_plugin.errors import UsageError
from ld3m_plugin.storage.sealed import content_digest

#: Tensors (N, ...) to start from, by name; or a function of labels (N,) and a random stream that makes them.
Start = Mapping[str, Tensor] | Callable[[Tensor, torch.Generator], Mapping[str, Tensor]]
#: Range of pixels in the images that a module gives; `normalised`: they are as the task normalises.
Output = Literal["normalised", "0 to 1", "-1 to 1"]
_TO_UNIT = {"normalised": (1.0, 0.0), "0 to 1": (1.0, 0.0), "-1 to 1": (0.5, 0.5)}


class ModuleGenerator(Generator):
    """Renders images as `module(*latents)`, with the latents in the order of `start`.

    The module is put on the task's device and into eval mode: images of a row may depend on that row alone. Its weights stay as
    they are.

    Args:
        module: gives images (N, C, H, H), N the rows of its latents.
        start: latents to start from, one row a label, ordered by class.
        learned: names of those that are learned; default: all of floating point.
        learning_rates: Adam's default rates by name; without them, optimisers need rates.
        output: the range of its images.

    Raises:
        UsageError: no module, an unknown range, or names that are not among the latents.
    """

    def __init__(
        self,
        module: nn.Module,
        start: Start,
        *,
        learned: Collection[str] | None = None,
        learning_rates: Mapping[str, float] | None = None,
        output: Output = "normalised",
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise UsageError(f"ModuleGenerator: {type(module).__name__} is no torch.nn.Module")
        if output not in _TO_UNIT:
            raise UsageError(f"ModuleGenerator: output = {output!r}: write one of {', '.join(map(repr, _TO_UNIT))}")
        self.module, self._start, self._output = module, start, output
        self._learned, self._rates = learned, dict(learning_rates or {})
        self._order: tuple[str, ...] = ()

    def prepare(self, task: Task) -> None:
        self.module.to(task.device).eval()
        self._mean, self._std = (torch.tensor(v, device=task.device).view(1, -1, 1, 1) for v in (task.mean, task.std))
        self._whitened = task.whitened

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Take the start as it is given, or make it.

        Raises:
            UsageError: it is no tensors by name, has another number of rows than labels, or lacks a name that is learned.
        """
        made = self._start(labels, rng) if callable(self._start) else self._start
        if not isinstance(made, Mapping) or not all(isinstance(tensor, Tensor) for tensor in made.values()):
            raise UsageError(f"ModuleGenerator: start is {type(made).__name__}: give tensors by name, as {{'z': z}}")
        self._order = tuple(made)
        rows = {name: tuple(tensor.shape) for name, tensor in made.items() if len(tensor) != len(labels)}
        if not made or rows:
            raise UsageError(
                f"ModuleGenerator: start has {rows or 'no latent'}: give tensors with {len(labels)} rows each"
            )
        floating = {name for name, tensor in made.items() if tensor.is_floating_point()}
        learned = floating if self._learned is None else set(self._learned)
        if not learned <= floating:
            raise UsageError(
                f"ModuleGenerator: learned {sorted(learned - floating)} are no float latents of {list(made)}"
            )
        return Latents({name: tensor.to(task.device) for name, tensor in made.items()}, tuple(learned))

    def render(self, latents: Latents) -> Tensor:
        images: Tensor = self.module(*(latents[name] for name in self._order or latents))
        if self._output == "normalised":
            return images
        scale, shift = _TO_UNIT[self._output]
        return self._whitened((images * scale + shift - self._mean) / self._std)

    def learning_rates(self) -> dict[str, float]:
        return dict(self._rates)

    def prior_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.module.parameters(), *self.module.buffers()))

    def provenance(self) -> dict[str, str]:
        """The module's class and a digest of its weights."""
        kind = type(self.module)
        weights = {name: value.detach().cpu() for name, value in self.module.state_dict().items()}
        return {"module": f"{kind.__module__}.{kind.__qualname__}", "module_sha256": content_digest(weights, {})}

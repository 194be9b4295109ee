"""`Synthetic`: the images of a generator as a module, for training loops that people already have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import create
from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import Generator, Task
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.distillation.first_latents import first_latents, planned, precision
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.options import build
from ld3m_plugin.registry import Registry, use_registry
from ld3m_plugin.synthetic.latent_parameters import LatentParameters
from ld3m_plugin.synthetic.own_parts import with_own_parts
from ld3m_plugin.synthetic.pulled_back import PulledBack, Rendered, rendered_by
from ld3m_plugin.synthetic.saved import OWN_LOOP, distilled_set, save_set


class Synthetic(LatentParameters):
    """The synthetic images of a generator, with its learned latents as parameters.

    >>> from ld3m_plugin.testing import tiny_task
    >>> syn = Synthetic("pixel", tiny_task(), ipc=2)
    >>> syn().square().mean().backward()
    >>> syn.step()
    >>> tuple(syn().shape), syn.labels.tolist()
    ((6, 1, 16, 16), [0, 0, 1, 1, 2, 2])

    Args:
        generator: a registered name, or a generator of your own; `ModuleGenerator` makes one of an `nn.Module`.
        task: the data; its device is that of the images. `Task.from_tensors` makes one of tensors.
        ipc: images per class.
        seed: of the start and of everything that the generator draws, as in a run.
        render_batch: latent rows rendered at a time, and again in the backward pass, so that memory stays flat; None: all, or as
            the generator plans.
        autocast: mixed precision of rendering: `none` or `bf16`.
        tf32: where TF32 is used on CUDA while rendering: `none`, `convolutions` or `all`.
        registry: where names are looked up; default: the installed plugins.
        **options: of a registered generator (`ld3m plugins show NAME`).

    Attributes:
        labels: class indices (N,), ordered by class, on the device.
        task: the data.
        generator: prepared for it.
        iteration: updates made so far.

    Raises:
        UsageError: an unknown name, option or value.
        DataError: the task has one class alone, or too few images.
    """

    def __init__(
        self,
        generator: str | Generator,
        task: Task,
        ipc: int = 1,
        *,
        seed: int = 0,
        render_batch: int | None = None,
        autocast: str = "none",
        tf32: str = "convolutions",
        registry: Registry | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(task, Task):
            raise UsageError(
                f"task = {task!r:.60}: give a Task, of ld3m.load_task(NAME) or ld3m.Task.from_tensors(...)"
            )
        task.check_classes()
        settings = {"seed": seed, "render_batch": render_batch, "autocast": autocast, "tf32": tf32}
        config = _config(generator, options, task, {**settings, "images_per_class": ipc})
        own = None if isinstance(generator, str) else generator
        config, registry = with_own_parts(config, registry, own, None)
        with use_registry(registry) as known:
            made: Generator = create("generator", config.generator.name, config.generator.options)
            labels, latents = first_latents(made, config, task.for_training())
            _, config = planned(made, config, latents, task)
        super().__init__(made, latents, config, known)
        self.task, self.labels = task, labels.to(task.device)

    def forward(self) -> Tensor:
        """Images (N, C, H, W), float32, normalised, on the task's device.

        The same tensor until the latents change or a gradient has come through it: a gradient from many uses is pulled back once.
        """
        if not torch.is_grad_enabled():
            with use_registry(self._registry), tf32(self._config.tf32, self.task.device), self._blaming("render"):
                return render(
                    self.generator, self.latents, self._config.render_batch, precision(self._config, self.task.device)
                )
        if self._shown is not None and self._shown[0].is_fresh():
            return self._shown[1]
        make = partial(rendered_by, self.generator, self._config, self.task, self._registry)
        rendered = Rendered(self.latents, make)
        expected = (len(self.labels), self.task.channels, self.task.image_size, self.task.image_size)
        if tuple(rendered.images.shape) != expected:
            raise HostError(f"{self._who} renders images {tuple(rendered.images.shape)}, the data has {expected}")
        images = cast(Tensor, PulledBack.apply(rendered, *self._learned().values()))
        self._shown = rendered, images
        return images

    def distilled(
        self, objective: str = OWN_LOOP, *, learned: Mapping[str, float] | None = None, networks: tuple[str, ...] = ()
    ) -> DistilledSet:
        """The images as a distilled set, with what is known of how they were made.

        Args:
            objective: a name for what they were matched with.
            learned: numbers that were learned with them, such as `synthetic_learning_rate`.
            networks: architectures that they were matched with, which tables call seen.

        Raises:
            NonFiniteError: an image is not finite.
        """
        with torch.no_grad():
            images = self()
        with use_registry(self._registry):
            return distilled_set(self, self._config, images, objective, learned or {}, networks)

    def save(self, folder: Path | str, objective: str = OWN_LOOP, **known: Any) -> DistilledSet:
        """Write the artefact that `ld3m distill` writes, and return it; arguments as for `distilled`.

        Raises:
            UsageError: something else than a distilled set is in the folder.
        """
        distilled = self.distilled(objective, **known)
        save_set(distilled, Path(folder))
        return distilled

    def _apply(self, fn: Any, recurse: bool = True) -> Synthetic:
        probe = fn(torch.empty(0, device=self.task.device))
        if probe.device.type != self.task.device.type or probe.dtype != torch.float32:
            raise UsageError(
                f"Synthetic stays float32 on {self.task.device}, where the generator's weights are: make it of "
                f"task.to({str(probe.device)!r})"
            )
        return self


def _config(
    generator: str | Generator, options: Mapping[str, Any], task: Task, settings: Mapping[str, Any]
) -> RunConfig:
    if options and not isinstance(generator, str):
        raise UsageError(
            f"options {', '.join(options)} are for a registered generator: give your own its options itself"
        )
    chosen = {"name": generator, "options": dict(options)} if isinstance(generator, str) else {}
    content = {
        **settings,
        "data": {"name": task.name, "options": dict(task.read_with)},
        "generator": chosen,
        "objective": {"name": OWN_LOOP},
        "device": str(task.device),
        "steps": 0,
    }
    return build(RunConfig, content, "Synthetic")

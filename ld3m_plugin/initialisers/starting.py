"""Generators that can start from pictures: what their option `init` names makes these."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ld3m_plugin.backends import create
from ld3m_plugin.contracts import Generator, Initialiser, Options, Task
from ld3m_plugin.data.identity import sha256
from ld3m_plugin.errors import PluginLoadError
from ld3m_plugin.initialisers.start_options import KIND, StartOptions
from ld3m_plugin.options import places
from ld3m_plugin.registry import blaming, current_registry, described

_OWN = {"init", "init_options"}

__all__ = ["StartOptions", "StartsFromPictures"]


class StartsFromPictures(Generator):
    """Base of generators that can start from pictures. Options derive from `StartOptions`."""

    _made: Initialiser | None = None

    @property
    def initialiser(self) -> Initialiser | None:
        """What the option `init` names; None for noise. Options of the same name are the generator's own."""
        name, options = self.options.init, self.options
        if self._made is None and name != options.noise_name:
            model = current_registry().options(KIND, name) or Options
            shared = (model.model_fields.keys() & type(options).model_fields.keys()) - _OWN
            lent = {key: getattr(options, key) for key in shared}
            self._made = cast(Initialiser, create(KIND, name, {**lent, **options.init_options}))
        return self._made

    def prepare(self, task: Task) -> None:
        """Let the initialiser check what it needs; raises its errors."""
        if self.initialiser is not None:
            with blaming(KIND, self.options.init, "prepare"):
                self.initialiser.prepare(task)

    def start_images(self, initialiser: Initialiser, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images (N, C, H, W) of the initialiser, normalised, on the task's device.

        Raises:
            DataError: a class has too few images.
            PluginLoadError: it gave images of another shape, or values that are not finite.
        """
        name, expected = self.options.init, (len(labels), task.channels, task.image_size, task.image_size)
        with blaming(KIND, name, "images"):
            images = initialiser.images(task, labels, rng)
        if tuple(images.shape) != expected or not torch.isfinite(images).all():
            raise PluginLoadError(
                f"{described(KIND, name)} gave images {tuple(images.shape)}: they must be {expected} and finite"
            )
        return images.to(task.device, torch.float32)

    def start(self) -> str:
        return "noise" if self.initialiser is None else self.initialiser.start()

    def provenance(self) -> dict[str, str]:
        """What decides the start beside `init`: a digest of the initialiser's options and facts, and the facts; often nothing."""
        if self.initialiser is None:
            return {}
        options, facts = self.initialiser.options, self.initialiser.provenance()
        settings = options.model_dump(mode="json", exclude=set(places(type(options))))
        if not settings and not facts:
            return {}
        told = {f"init_options_{name}": fact for name, fact in facts.items()}
        return {"init_options_sha256": sha256((settings, facts)), **told}

"""What makes images: generators, the plan of a render, and initialisers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.contracts.backend_bases import StatefulBackend, WithOptions
from ld3m_plugin.contracts.latent_tensors import Latents
from ld3m_plugin.options import RatedOptions
from ld3m_plugin.task import Task


@dataclass(frozen=True)
class RenderPlan:
    """What a generator chose where the settings of a run leave open how much memory a render takes.

    Attributes:
        options: its options that left a choice open, such as `memory=auto`, with the values they have now. The host records them
            in the run's settings, with which the run goes on.
        rows: latent rows that the host should render at a time; None: all of them, or as many as the run's settings say.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None


class Generator(StatefulBackend, ABC):
    """Frozen weights and two functions: latents to start from, and latents to images.

    `render` is pure, differentiable, deterministic and row-wise independent: images of row i depend on row i alone, so that
    the host may render in chunks of any size. Options are a pydantic model in `Options`.
    """

    #: How many images one row of latents renders, of the same label and in order (multi-formation, as in IDC).
    images_per_latent: int = 1

    def prepare(self, task: Task) -> None:
        """Called once before the other methods with the task's facts (size, mean, std, device): load weights, move them."""

    @abstractmethod
    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Latents to start from.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,), ordered by class, N a count of latent rows.
            rng: the stream to draw from, on the CPU.

        Returns:
            Latents with N rows on `task.device`.
        """

    def plan(self, latents: Latents, rows: int | None) -> RenderPlan:
        """Called once before the first render: choose what options leave open, from sizes alone, never from time or free memory.

        Args:
            latents: the start latents, all rows.
            rows: rows that the run's settings render at a time; None: they do not say.
        """
        return RenderPlan()

    @abstractmethod
    def render(self, latents: Latents) -> Tensor:
        """Images (N·images_per_latent, C, H, W), float32, normalised, of latents with N rows."""

    def recomputes(self, latents: Latents) -> bool:
        """Whether the graph of `render` keeps little, because its activations are computed again in the backward pass.

        The host then keeps the graphs of all chunks. Otherwise it renders chunks without a graph, and again with one.
        """
        return False

    def on_step(self, latents: Latents, step: int, rng: torch.Generator) -> Latents:
        """Called after update number `step` (from 1). May redraw a fixed tensor or move to another space.

        Tensors that are returned unchanged (the same objects) keep their optimiser state, others start afresh.
        """
        return latents

    def learning_rates(self) -> dict[str, float]:
        """Adam's default learning rate for each learned latent, by name; those of its `RatedOptions` if it has such."""
        return self.options.learning_rates() if isinstance(self.options, RatedOptions) else {}

    def start(self) -> str:
        """What the latents start from, for tables: `real images`, `noise`, `prior`, or words of its own; "" if it is not said."""
        return ""

    def prior_bytes(self) -> int:
        """Bytes of the frozen weights that `render` needs beside the latents, as they are in memory; called after `prepare`."""
        return 0


class Initialiser(WithOptions, ABC):
    """Makes pictures that a generator starts from, out of training images and frozen models: nothing is learned.

    It is a baseline as well: what networks learn from its pictures is what distillation adds to. Options are a pydantic model in
    `Options`; those that a generator has under the same name, such as its prior, are lent by it.
    """

    def prepare(self, task: Task) -> None:
        """Called once before the other methods: check what `images` needs. Loading it may wait until then."""

    @abstractmethod
    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images to start from: (N, C, H, W), float32, normalised, on `task.device`.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,), ordered by class. `task.by_class` gives each class a stream of its own.
            rng: the stream to draw from, on the CPU.

        Raises:
            DataError: a class has too few images.
        """

    def start(self) -> str:
        """What the images are, for tables, such as `class means`; "" if it is not said."""
        return ""

    def provenance(self) -> dict[str, str]:
        """Facts that decide the images beside the options, such as the digest of a prior; called after `prepare`."""
        return {}

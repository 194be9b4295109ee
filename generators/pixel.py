"""Pixels as latents: the classic space of dataset distillation, in which the images themselves are learned.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 3 (initialisation from noise
or from real images). Unlike the published scripts, real initial images are distinct within a class.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import BackendOptions, Generator, Latents, Task


class PixelOptions(BackendOptions):
    """Options of the pixel generator."""

    init: Literal["real", "noise"] = Field(
        "real",
        description="distinct real images of the class, or Gaussian noise of unit variance (in normalised pixels)",
    )


class PixelGenerator(Generator):
    """Renders the latent `pixels` (N, C, H, W), normalised, as they are."""

    Options = PixelOptions

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Pixels of real images or noise; real images need as many in each class as there are labels of it."""
        shape = (len(labels), task.channels, task.image_size, task.image_size)
        pixels = torch.empty(shape, device=task.device)
        if self.options.init == "noise":
            pixels = torch.randn(shape, generator=rng).to(task.device)
        else:
            for class_index in labels.unique().tolist():
                rows = (labels == class_index).nonzero().squeeze(1).to(task.device)
                pixels[rows] = task.real_images(class_index, len(rows), rng)
        return Latents({"pixels": pixels}, learned=("pixels",))

    def render(self, latents: Latents) -> Tensor:
        return latents["pixels"]

    def learning_rates(self, objective: str) -> dict[str, float]:
        return {"pixels": 0.05}

"""Pixels as latents: the classic form of dataset distillation, which learns the images themselves.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 3 (initialisation from noise
or from real images). Unlike the published scripts, real initial images are distinct within a class.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import Generator, Latents, Options, Task


class PixelOptions(Options):
    """Options of the pixel generator."""

    init: Literal["real", "noise"] = Field(
        "real",
        description="first pixels: distinct real images of the class, or Gaussian noise of unit variance (normalised pixels)",
    )


class PixelGenerator(Generator):
    """Returns the latent `pixels` (N, C, H, W), which are normalised images, unchanged."""

    Options = PixelOptions

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Draw real images or noise.

        Raises:
            DataError: a class has fewer real images than labels.
        """
        if self.options.init == "noise":
            shape = (len(labels), task.channels, task.image_size, task.image_size)
            pixels = torch.randn(shape, generator=rng).to(task.device)
        else:
            pixels = task.real_images_of(labels, rng)
        return Latents({"pixels": pixels}, learned=("pixels",))

    def render(self, latents: Latents) -> Tensor:
        return latents["pixels"]

    def start(self) -> str:
        return "real images" if self.options.init == "real" else "noise"

    def learning_rates(self) -> dict[str, float]:
        return {"pixels": 0.05}

"""Pixels as latents: the classic form of dataset distillation, which learns the images themselves.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 3 (initialisation from noise
or from real images). Unlike the published scripts, real initial images are distinct within a class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.contracts import Latents, Task
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.pixel_options import PixelOptions
from ld3m_plugin.initialisers.starting import StartsFromPictures


class PixelGenerator(StartsFromPictures):
    """Returns the latent `pixels` (N, C, H, W), which are normalised images, unchanged or clamped."""

    Options = PixelOptions

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self._pictures = PictureSpace(task, task.channels, self.options.clamp)

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Make first pixels with the initialiser, or draw noise.

        Raises:
            DataError: a class has fewer real images than labels.
        """
        if self.initialiser is None:
            shape = (len(labels), task.channels, task.image_size, task.image_size)
            pixels = torch.randn(shape, generator=rng).to(task.device)
        else:
            pixels = self.start_images(self.initialiser, task, labels, rng)
        return Latents({"pixels": pixels}, learned=("pixels",))

    def render(self, latents: Latents) -> Tensor:
        return latents["pixels"] if self.options.clamp == "none" else self._pictures.clamped(latents["pixels"])

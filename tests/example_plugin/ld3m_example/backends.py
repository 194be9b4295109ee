"""A generator and an objective, each as small as a useful one can be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import DifferentiableObjective, Generator, Latents, Options, Task
from ld3m_plugin.errors import InvalidOptionError


class UpsampleOptions(Options):
    """Each field is an option: `-G factor=4`. The description is what `ld3m plugins show` prints."""

    factor: int = Field(2, ge=1, description="image pixels for each learned pixel, along a side")


class Upsample(Generator):
    """Learns images at a fraction of the size: fewer numbers to store, and no pixel noise."""

    Options = UpsampleOptions

    def prepare(self, task: Task) -> None:
        if task.image_size % self.options.factor:
            raise InvalidOptionError(f"factor {self.options.factor} does not divide the image size {task.image_size}")

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        # Shrunk real images. Labels are ordered by class, so that the rows of a class stand together.
        classes, counts = labels.unique_consecutive(return_counts=True)
        real = torch.cat([task.real_images(int(k), int(n), rng) for k, n in zip(classes, counts, strict=True)])
        return Latents({"small": F.avg_pool2d(real, self.options.factor)}, learned=("small",))

    def render(self, latents: Latents) -> Tensor:
        return F.interpolate(latents["small"], scale_factor=float(self.options.factor), mode="bilinear")  # (N, C, H, W)

    def learning_rates(self) -> dict[str, float]:
        return {"small": 0.05}


class MomentsOptions(Options):
    """Options of the objective: `-O batch_real=64`."""

    batch_real: int = Field(64, ge=1, description="real images a class and step")
    square_weight: float = Field(0.1, ge=0, description="weight of the squares against the means")


class Moments(DifferentiableObjective):
    """The mean of each pixel and of its square should be the same over the real and the synthetic images of a class."""

    Options = MomentsOptions

    def loss(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        classes = self.task.num_classes
        # `self.draws` is the only source of randomness: a stream for each purpose at each step, which a resumed run draws again.
        real = [self.task.real_images(k, self.options.batch_real, self.draws(step, "real", k)) for k in range(classes)]
        real_images = torch.stack(real)  # (K, B, C, H, W)
        # Labels are class indices (N,), or probabilities (N, K).
        shares = (F.one_hot(labels, classes) if labels.ndim == 1 else labels).to(images)
        weights = shares / shares.sum(0)  # (N, K)
        mean, square = (torch.einsum("nk,nchw->kchw", weights, x) for x in (images, images.square()))
        mean_loss = F.mse_loss(mean, real_images.mean(1))
        square_loss = F.mse_loss(square, real_images.square().mean(1))
        return mean_loss + self.options.square_weight * square_loss, {"mean_loss": float(mean_loss.detach())}

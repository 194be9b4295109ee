"""The class-conditional U-Net of a prior, trained on the latents of real images.

Source: Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, Algorithm 1; Ho and Salimans, "Classifier-Free
Diffusion Guidance", 2022, Algorithm 1 (random class dropout); Salimans and Ho, "Progressive Distillation", ICLR 2022,
section 4 (v-prediction); the noise schedule of the ImageNet model of Rombach et al., CVPR 2022.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions


def build_scheduler(options: LdmTrainingOptions) -> Any:
    """Build the noise schedule of `cin256-v2`, with clean latents after the last step."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        prediction_type=options.prediction,
        clip_sample=False,
        set_alpha_to_one=True,
    )


class Denoiser(nn.Module):
    """A U-Net, and embeddings of K classes and of "no class" (row K)."""

    def __init__(self, num_classes: int, grid: int, options: LdmTrainingOptions) -> None:
        from diffusers import UNet2DConditionModel

        super().__init__()
        levels = len(options.channels)
        self.null_class = num_classes
        self.embedding = nn.Embedding(num_classes + 1, options.embedding_size)
        self.unet = UNet2DConditionModel(
            sample_size=grid,
            in_channels=options.latent_channels,
            out_channels=options.latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            block_out_channels=options.channels,
            layers_per_block=options.layers,
            cross_attention_dim=options.embedding_size,
            attention_head_dim=options.heads,  # diffusers reads this as the number of heads
            norm_num_groups=options.norm_groups,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, classes: Tensor) -> Tensor:
        """Predict (n, L, h, w) from noisy latents (n, L, h, w), timesteps (n,) and classes (n,)."""
        prediction: Tensor = self.unet(noisy, timesteps, self.embedding(classes)[:, None]).sample
        return prediction


class DenoisingLoss:
    """Mean squared error of the prediction on random latents at random timesteps."""

    def __init__(
        self, latents: Tensor, labels: Tensor, null_class: int, scheduler: Any, options: LdmTrainingOptions
    ) -> None:
        self._latents, self._labels, self._null = latents, labels, null_class
        self._scheduler, self._options = scheduler, options

    def __call__(self, model: nn.Module, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        options = self._options
        count = options.batch_size
        which = torch.randint(len(self._latents), (count,), generator=rng)
        clean = self._latents[which]
        noise = torch.randn(clean.shape, generator=rng)
        timesteps = torch.randint(self._scheduler.config.num_train_timesteps, (count,), generator=rng)
        dropped = torch.rand(count, generator=rng) < options.drop_class
        classes = torch.where(dropped, self._null, self._labels[which])
        device = next(model.parameters()).device
        clean, noise, timesteps, classes = (t.to(device) for t in (clean, noise, timesteps, classes))
        prediction = model(self._scheduler.add_noise(clean, noise, timesteps), timesteps, classes)
        return F.mse_loss(prediction.float(), self._target(clean, noise, timesteps)), {}

    def _target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self._options.prediction == "v_prediction":
            velocity: Tensor = self._scheduler.get_velocity(clean, noise, timesteps)
            return velocity
        return noise if self._options.prediction == "epsilon" else clean

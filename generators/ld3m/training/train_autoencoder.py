"""The autoencoder of a prior, between images in [-1, 1] and a small latent grid.

Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, section 3.1 and appendix G
(KL-regularised autoencoder), without the adversarial and perceptual terms: small images do not need them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.task import Task

# Latents have a unit normal prior: a standard deviation below this is rounding.
_ALIKE = 1e-6


def build_autoencoder(task: Task, options: LdmTrainingOptions) -> Any:
    """Build a diffusers AutoencoderKL for the task's channels and resolution."""
    from diffusers import AutoencoderKL

    levels = len(options.autoencoder_channels)
    return AutoencoderKL(
        in_channels=task.channels,
        out_channels=task.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=options.autoencoder_channels,
        layers_per_block=options.autoencoder_layers,
        latent_channels=options.latent_channels,
        norm_num_groups=options.norm_groups,
        sample_size=task.image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


class AutoencoderTraining(nn.Module):
    """Encode, sample the posterior, decode; gives pixel error (mean absolute + mean squared) and KL in nats per entry."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.autoencoder.encode(pictures).latent_dist
        difference = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample - pictures
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return difference.abs().mean() + difference.square().mean(), divergence


@torch.no_grad()
def encode_everything(autoencoder: Any, batches: RealBatches) -> tuple[Tensor, Tensor]:
    """Encode all training images; returns latents (n, L, h, w), the mean of each posterior, and classes (n,), on the CPU.

    The latents are normalised to mean zero and unit variance in every channel; the numbers are written to `latents_mean` and
    `latents_std` of the autoencoder's configuration.

    Raises:
        PriorError: a channel is constant, so nothing can be learned from it.
    """
    encoded = [(autoencoder.encode(x).latent_dist.mean.float().cpu(), classes) for x, classes in batches.everything()]
    grid, labels = map(torch.cat, zip(*encoded, strict=True))
    std, mean = torch.std_mean(grid, dim=(0, 2, 3))
    if not (std > _ALIKE).all():
        raise PriorError(
            "a channel of the autoencoder's latents is constant over all images: lower kl_weight or autoencoder_rate"
        )
    autoencoder.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return (grid - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1), labels

"""The autoencoder of a prior: images in [-1, 1] to a small latent grid and back.

Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022, section 3.1 and appendix G
(KL-regularised autoencoder), without its adversarial and perceptual terms, which small images do not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.training.options import LdmTrainingOptions
from ld3m_plugin.task import Task

_ENCODED_AT_ONCE = 256
# Of latents with a unit normal prior: deviations below this are rounding.
_ALIKE = 1e-6


def build_autoencoder(task: Task, options: LdmTrainingOptions) -> Any:
    """A diffusers AutoencoderKL of the size that the options say, for the task's channels and resolution."""
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
    """Encode, draw from the posterior, decode; gives pixel error (mean absolute + mean squared) and KL in nats an entry."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.autoencoder.encode(pictures).latent_dist
        decoded = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample
        difference = decoded - pictures
        divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return difference.abs().mean() + difference.square().mean(), divergence


class RealBatches:
    """Random batches of real images in [-1, 1], every image equally likely, and their classes."""

    def __init__(self, task: Task, batch_size: int) -> None:
        self._task, self._size = task, batch_size
        counts = torch.tensor(task.train.counts())
        self._ends = counts.cumsum(0)
        self.total = int(self._ends[-1])

    def draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (batch, C, H, W) and classes (batch,), on the task's device."""
        numbers = torch.randint(self.total, (self._size,), generator=rng).sort().values
        labels = torch.searchsorted(self._ends, numbers, right=True)
        starts = self._ends.roll(1).index_fill(0, torch.tensor(0), 0)
        parts = [self._read(int(c), numbers[labels == c] - starts[c]) for c in labels.unique()]
        return torch.cat(parts), labels.to(self._task.device)

    def everything(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All images class by class, in batches."""
        for class_index, count in enumerate(self._task.train.counts()):
            for which in torch.arange(count).split(_ENCODED_AT_ONCE):
                if not len(which):  # splitting nothing gives one empty part
                    continue
                yield self._read(class_index, which), torch.full((len(which),), class_index)

    def _read(self, class_index: int, which: Tensor) -> Tensor:
        images = self._task.train.read(class_index, which).to(self._task.device)
        return images.float().div_(127.5).sub_(1)


@torch.no_grad()
def encode_everything(autoencoder: Any, batches: RealBatches) -> tuple[Tensor, Tensor]:
    """Latents (n, L, h, w), the mean of each posterior, and classes (n,) of all training images, on the CPU.

    Also sets `latents_mean` and `latents_std` of the autoencoder's configuration, so that normalised latents have mean zero
    and unit variance in every channel.

    Raises:
        PriorError: a channel is the same everywhere, so that nothing can be learned from it.
    """
    latents, labels = [], []
    for pictures, classes in batches.everything():
        latents.append(autoencoder.encode(pictures).latent_dist.mean.float().cpu())
        labels.append(classes)
    grid = torch.cat(latents)
    std, mean = torch.std_mean(grid, dim=(0, 2, 3))
    if not (std > _ALIKE).all():
        raise PriorError(
            "a channel of the autoencoder's latents is the same for all images: lower kl_weight or autoencoder_rate"
        )
    autoencoder.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return (grid - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1), torch.cat(labels)

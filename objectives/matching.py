"""What the matching objectives share: which network they look through, and how real images are drawn and augmented."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import BackendOptions, Network, Task
from ld3m_plugin.networks.build import get_network


class MatchingOptions(BackendOptions):
    """Options of every objective that compares real and synthetic images through a network."""

    network: str = Field("ConvNet", description="registered network the images are compared through")
    network_settings: dict[str, Any] = Field(
        default_factory=dict, description="its settings, such as depth, width, norm (default: the network's own)"
    )
    batch_real: int = Field(256, ge=1, description="real images a class and step (published: 256)")
    memory_budget: float = Field(
        4.0, gt=0, description="GiB that one forward over real images may take; more images are split"
    )
    dsa: str = Field(
        "color_crop_cutout_flip_scale_rotate",
        description="DSA operations joined by '_', one drawn a class and step; 'none'",
    )


def random_network(options: MatchingOptions, task: Task, rng: torch.Generator) -> Network:
    """A freshly initialised network for the task, on its device, its weights a function of `rng`."""
    return get_network(
        options.network,
        rng=rng,
        device=task.device,
        channels=task.channels,
        image_size=task.image_size,
        num_classes=task.num_classes,
        **options.network_settings,
    )


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights (K, N) of each image in its class's mean, rows summing to one (to zero for a class without images).

    Args:
        labels: class indices (N,) or probabilities (N, K).
    """
    shares = labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels, num_classes)
    shares = shares.float().T
    return shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def augment_by_class(
    dsa: DSA, real: list[Tensor], images: Tensor, labels: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Siamese augmentation: one draw a class, applied to its real images and to its synthetic ones.

    Args:
        real: for each class its real images (B, C, H, W).
        images: synthetic images (N, C, H, W), ordered by class.
        labels: class indices (N,), on the CPU.

    Returns:
        The augmented real images of all classes (K·B, C, H, W), ordered by class, and synthetic ones (N, C, H, W) in the
        order they came in.
    """
    order = labels.argsort(stable=True)
    sizes = labels.bincount(minlength=len(real)).tolist()
    augmented_real, augmented = [], []
    for batch, synthetic in zip(real, images[order].split(sizes), strict=True):
        draw = dsa.draw(tuple(batch.shape), rng, siamese=True)
        augmented_real.append(dsa.apply(batch, draw))
        augmented.append(dsa.apply(synthetic, draw) if len(synthetic) else synthetic)
    return torch.cat(augmented_real), torch.cat(augmented)[order.argsort()]

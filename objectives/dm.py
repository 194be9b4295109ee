"""Distribution matching (DM): class means of random networks' features should agree.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 6: the sum over classes of the
squared distance between the mean embedding of real and of synthetic images, in a newly initialised network each step and
under the same augmentation (DSA).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import DifferentiableObjective, Network, Task
from ld3m_plugin.memory import images_at_once
from ld3m_plugin.objectives.matching import MatchingOptions, augment_by_class, class_weights, random_network


def dm_loss(real_means: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    """Σ_k ‖ mean real features of class k − mean synthetic features of class k ‖².

    Args:
        real_means: (K, F).
        features: of the synthetic images, (N, F).
        weights: of the images in their class's mean, (K, N); classes whose weights are all zero do not count.

    By hand: real means (1, 2), one synthetic image with features (0, 4) of that class: 1 + 4 = 5.

    >>> float(dm_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0]])))
    5.0
    """
    present = weights.sum(1, keepdim=True) > 0
    return ((real_means - weights @ features) * present).square().sum()


class DM(DifferentiableObjective):
    """Matches class means of features of a fresh random network each step."""

    Options = MatchingOptions

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        super().prepare(task, labels, rng)
        self._dsa = DSA(self.options.dsa)
        self._at_once: int | None = None

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        network = random_network(self.options, self.task, self.rng).requires_grad_(False)
        classes = range(self.task.num_classes)
        real = [self.task.real_images(index, self.options.batch_real, self.rng) for index in classes]
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        real_images, images = augment_by_class(self._dsa, real, images, hard, self.rng)
        weights = class_weights(labels, self.task.num_classes).to(images.device)
        return dm_loss(self._class_means(network, real_images), network.embed(images), weights)

    def _class_means(self, network: Network, real_images: Tensor) -> Tensor:
        """Mean features (K, F) of real images (K·B, C, H, W) in one forward, or as few as memory allows."""
        if self._at_once is None:
            self._at_once = images_at_once(network.embed, real_images, self.options.memory_budget)
        with torch.no_grad():
            features = torch.cat([network.embed(part) for part in real_images.split(self._at_once)])
        by_class: Tensor = features.unflatten(0, (self.task.num_classes, self.options.batch_real))
        return by_class.mean(1)

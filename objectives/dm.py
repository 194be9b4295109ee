"""Distribution matching (DM): real and synthetic class means of random networks' features should agree.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 6: the sum over classes of the
squared distance between the mean embeddings of real and of synthetic images, by a newly initialised network in each step and
under the same augmentation (DSA).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import DifferentiableObjective, Network, Task
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.networks.build import for_forward
from ld3m_plugin.objectives.matching import (
    MatchingOptions,
    augment_by_class,
    class_weights,
    draws_by_class,
    has_batch_norm,
    has_dropout,
    notes_on_counts,
    random_network,
    real_counts,
    real_images_at_once,
)
from ld3m_plugin.randomness import lent_to_global


def dm_loss(real_means: Tensor, features: Tensor, weights: Tensor) -> Tensor:
    """Σ_k ‖ mean real features of class k − mean synthetic features of class k ‖².

    Args:
        real_means: (K, F).
        features: of the synthetic images, (N, F).
        weights: of the images in the mean of their class, (K, N); classes whose weights are all zero do not count.

    By hand: real means (1, 2), one synthetic image with features (0, 4) of that class: 1 + 4 = 5.

    >>> float(dm_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0]])))
    5.0
    """
    present = weights.sum(1, keepdim=True) > 0
    return ((real_means - weights @ features) * present).square().sum()


class DM(DifferentiableObjective):
    """Matches class means of features of a new random network in each step."""

    Options = MatchingOptions

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        super().prepare(task, labels, rng)
        self._counts = real_counts(self.options, task)
        self._dsa = DSA(self.options.dsa)
        # Now and not at the first step: wrong settings fail early, and a resumed run draws the same numbers.
        network = random_network(self.options, task, torch.Generator()).eval()
        self._at_once = task.num_classes * self.options.batch_real
        if not has_batch_norm(network):  # its statistics are of the whole batch: a split would change the result
            self._at_once = min(self._at_once, real_images_at_once(task))

    def notes(self) -> tuple[str, ...]:
        return notes_on_counts(self.options, self.task)

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        task = self.task
        network = for_forward(random_network(self.options, task, self.draws(step, "network"))).requires_grad_(False)
        shape = (self.options.batch_real, *images.shape[1:])
        # Siamese: one draw per class, for its real and its synthetic images.
        draws = draws_by_class(self, self._dsa, shape, step)
        real_means = self._class_means(network, draws, step)
        with lent_to_global(self.draws(step, "dropout"), task.device):
            features = network.embed(augment_by_class(self._dsa, draws, images, labels))
        weights = to_device(class_weights(labels, task.num_classes), images.device)
        # Never in half precision: small differences of large sums.
        with torch.autocast(images.device.type, enabled=False):
            return dm_loss(real_means, features.float(), weights)

    def _class_means(self, network: Network, draws: Sequence[DSADraw], step: int) -> Tensor:
        """Mean features (K, F) of real images, a few classes or a part of one per forward pass."""
        batch, at_once, means = self.options.batch_real, self._at_once, []
        for group in torch.arange(len(draws)).split(1 if has_dropout(network) else max(1, at_once // batch)):
            real = [
                self._dsa.apply(self.task.real_images(k, self._counts[k], self.draws(step, "real", k)), draws[k])
                for k in group.tolist()
            ]
            with torch.no_grad(), lent_to_global(self.draws(step, "dropout", int(group[0])), self.task.device):
                features = torch.cat([network.embed(part).float() for part in torch.cat(real).split(at_once)])
            means.append(_means(features, [self._counts[k] for k in group.tolist()]))
        return torch.cat(means)


def _means(features: Tensor, counts: Sequence[int]) -> Tensor:
    """Means (G, F) of features (sum of counts, F) of G classes."""
    if len(set(counts)) == 1:
        means: Tensor = features.unflatten(0, (len(counts), counts[0])).mean(1)
        return means
    return torch.stack([part.mean(0) for part in features.split(list(counts))])

"""Distribution matching (DM): real and synthetic class means of random networks' features should agree.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 6: the sum over classes of the
squared distance between the mean embeddings of real and of synthetic images, by a newly initialised network in each step and
under the same augmentation (DSA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import DifferentiableObjective, Match, Network, Task
from ld3m_plugin.devices.transfer import number, to_device
from ld3m_plugin.networks.build import for_forward
from ld3m_plugin.objectives.matching import (
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
from ld3m_plugin.objectives.matching_options import MatchingOptions, pool
from ld3m_plugin.objectives.network_pool import Balance, drawn, for_network
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
    """Matches class means of features of new random networks in each step."""

    Options = MatchingOptions

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        super().prepare(task, labels, rng)
        self._counts = real_counts(self.options, task)
        self._dsa = DSA(self.options.dsa)
        self._balance = Balance(pool(self.options))
        # Now and not at the first step: wrong settings fail early, and a resumed run draws the same numbers.
        self._at_once = {name: self._real_at_once(name) for name in pool(self.options)}

    def _real_at_once(self, name: str) -> int:
        """How many real images go through a network in one pass."""
        all_of_them: int = self.task.num_classes * self.options.batch_real
        network = random_network(self.options, self.task, torch.Generator(), name).eval()
        if has_batch_norm(network):  # its statistics are of the whole batch: a split would change the result
            return all_of_them
        return min(all_of_them, real_images_at_once(self.task))

    def notes(self) -> tuple[str, ...]:
        return notes_on_counts(self.options, self.task)

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """The loss with the first network of the step, differentiable with respect to `images` (N, C, H, W)."""
        return self._loss(drawn(self.options, self.draws(step, "pool"))[0], 0, images, labels, step)

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        if self.options.networks_at_once == 1:
            return super().match(images, labels, step)
        images, labels = self.given(images, labels)
        matches = {}
        for index, name in enumerate(drawn(self.options, self.draws(step, "pool"))):
            loss = self._loss(name, index, images, labels, step)
            (image_grad,) = torch.autograd.grad(loss, images)
            matches[name] = Match(number(loss), image_grad)
        return self._balance.combine(matches)

    def _loss(self, name: str, index: int, images: Tensor, labels: Tensor, step: int) -> Tensor:
        """The loss with network number `index` of the step; all networks see the same real images and augmentations."""
        task = self.task
        rng = self.draws(step, *for_network(index, "network"))
        network = for_forward(random_network(self.options, task, rng, name)).requires_grad_(False)
        shape = (self.options.batch_real, *images.shape[1:])
        # Siamese: one draw per class, for its real and its synthetic images.
        draws = draws_by_class(self, self._dsa, shape, step)
        real_means = self._class_means(network, self._at_once[name], draws, step)
        with lent_to_global(self.draws(step, "dropout"), task.device):
            features = network.embed(augment_by_class(self._dsa, draws, images, labels))
        weights = to_device(class_weights(labels, task.num_classes), images.device)
        # Never in half precision: small differences of large sums.
        with torch.autocast(images.device.type, enabled=False):
            return dm_loss(real_means, features.float(), weights)

    def _class_means(self, network: Network, at_once: int, draws: Sequence[DSADraw], step: int) -> Tensor:
        """Mean features (K, F) of real images, a few classes or a part of one per forward pass."""
        batch, means = self.options.batch_real, []
        for group in torch.arange(len(draws)).split(1 if has_dropout(network) else max(1, at_once // batch)):
            real = [
                self._dsa.apply(self.task.real_images(k, self._counts[k], self.draws(step, "real", k)), draws[k])
                for k in group.tolist()
            ]
            with torch.no_grad(), lent_to_global(self.draws(step, "dropout", int(group[0])), self.task.device):
                features = torch.cat([network.embed(part).float() for part in torch.cat(real).split(at_once)])
            means.append(_means(features, [self._counts[k] for k in group.tolist()]))
        return torch.cat(means)

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), **self._balance.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._balance.load_state_dict(state)


def _means(features: Tensor, counts: Sequence[int]) -> Tensor:
    """Means (G, F) of features (sum of counts, F) of G classes."""
    if len(set(counts)) == 1:
        means: Tensor = features.unflatten(0, (len(counts), counts[0])).mean(1)
        return means
    return torch.stack([part.mean(0) for part in features.split(list(counts))])

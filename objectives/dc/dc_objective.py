"""Gradient matching (DC): gradients of a network on real and on synthetic images of a class should agree.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, equations 7 to 10 and algorithm 1;
with siamese augmentation, Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.

A random network is matched once per step, and trained on the synthetic images between two steps; after `outer_loop` steps a new
one is drawn. Published loops by images per class (outer/inner): 1: 1/1, 10: 10/50, 50: 50/10. GLaD and LD3M use 1/1 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import Match, Network, Objective, Task
from ld3m_plugin.devices.transfer import number, to_device
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.objectives.dc.distances import DISTANCES
from ld3m_plugin.objectives.dc.gradients import (
    classes_at_once,
    freeze_batch_norm,
    real_gradient,
    synthetic_gradients,
    vectorises,
)
from ld3m_plugin.objectives.matching import (
    MatchingOptions,
    augment_by_class,
    cross_entropy,
    draws_by_class,
    has_batch_norm,
    likeliest,
    notes_on_counts,
    random_network,
    real_counts,
    real_images_at_once,
)
from ld3m_plugin.randomness import lent_to_global, spawn

#: Real images of each class for the statistics of batch norm; the published number.
_FOR_BATCH_NORM = 16


class DCOptions(MatchingOptions):
    """Options of gradient matching."""

    distance: Literal["ours", "mse", "cos"] = Field(
        "ours",
        description="of two gradients: 1 - cosine of each output by layer, squared difference, or 1 - cosine of all",
    )
    outer_loop: int = Field(1, ge=1, description="steps with one network (published for 1/10/50 a class: 1/10/50)")
    inner_loop: int = Field(
        1, ge=0, description="its training epochs on the synthetic images between two steps (published: 1/50/10)"
    )
    lr_net: float = Field(0.01, gt=0, description="learning rate of that training (SGD)")
    momentum_net: float = Field(0.5, ge=0, lt=1, description="its momentum (published: DC 0.5, later code for DSA 0)")
    batch_train: int = Field(256, ge=1, description="its batch size")
    classes_at_once: int | None = Field(
        None,
        ge=1,
        description="classes whose synthetic gradients are computed in one pass; default: by the size of what they keep",
    )


class DC(Objective):
    """Matches gradients class by class, with a network that is trained between the steps.

    With soft labels, an image is matched with the real images of its likeliest class, and its cross-entropy uses all of its
    probabilities.
    """

    Options = DCOptions

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        super().prepare(task, labels, rng)
        self._counts = real_counts(self.options, task)
        self._dsa = DSA(self.options.dsa)
        self._matches = 0  # with the present network
        # In eval mode nothing draws random numbers: a resumed run draws the same ones.
        self._adopt(random_network(self.options, task, torch.Generator()).eval())
        one = task.normalise(task.train.read(0, torch.arange(1)))
        per_class = int(likeliest(labels).bincount().max())
        self._real_at_once = real_images_at_once(task)
        self._classes_at_once = self._choose_classes_at_once(one, per_class)

    def _choose_classes_at_once(self, image: Tensor, per_class: int) -> int:
        """The number in the options, or as many as fit; 1 unless it is shown that several give the same result."""
        chosen: int | None = self.options.classes_at_once
        fitting = chosen or classes_at_once(self._network, image, per_class)
        wanted = min(fitting, self.task.num_classes)
        if wanted == 1 or vectorises(self._network, image):
            return wanted
        if chosen:
            raise InvalidOptionError(
                f"dc: classes_at_once = {chosen}: gradients of network {self.options.network!r} change when classes are taken "
                "together, or this cannot be checked: leave the option out to take classes one by one"
            )
        return 1

    def notes(self) -> tuple[str, ...]:
        return notes_on_counts(self.options, self.task)

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        self._next_network(images.detach(), labels, step)
        shape = (self.options.batch_real, *images.shape[1:])
        # Siamese: one draw per class, for its real and its synthetic images.
        draws = draws_by_class(self, self._dsa, shape, step)
        augmented = augment_by_class(self._dsa, draws, images, labels)
        loss, gradient = self._match(augmented.detach(), labels, draws, step)
        (image_grad,) = torch.autograd.grad(augmented, images, gradient)
        self._matches = (self._matches + 1) % self.options.outer_loop
        return Match(loss, image_grad)

    def _match(self, images: Tensor, labels: Tensor, draws: list[DSADraw], step: int) -> tuple[float | Tensor, Tensor]:
        """The loss and its gradient with respect to the augmented images (N, C, H, W), a few classes at a time."""
        distance, device = DISTANCES[self.options.distance], images.device
        total, gradient = torch.zeros((), dtype=torch.float64, device=device), torch.zeros_like(images)
        there = to_device(labels, device)
        for classes, on_cpu in _groups(labels, self._classes_at_once):
            rows = to_device(on_cpu, device)
            real = [self._real_gradient(k, draws[k], step) for k in classes]
            part = images[rows].requires_grad_()
            with lent_to_global(self.draws(step, "dropout", classes[0]), device):
                synthetic = synthetic_gradients(self._network, part, there[rows])
            # Never in half precision: cosines of nearly parallel vectors.
            with torch.autocast(device.type, enabled=False):
                loss = distance([torch.stack(tensors) for tensors in zip(*real, strict=True)], synthetic).sum()
            (part_gradient,) = torch.autograd.grad(loss, part)
            gradient[rows] = part_gradient
            total += loss.detach().double()
        return number(total), gradient

    def _real_gradient(self, k: int, draw: DSADraw, step: int) -> list[Tensor]:
        """The network's gradient on real images of class `k`."""
        real = self.task.real_images(k, self._counts[k], self.draws(step, "real", k))
        with lent_to_global(self.draws(step, "real dropout", k), real.device):
            return real_gradient(self._network, self._dsa.apply(real, draw), k, self._real_at_once)

    def _next_network(self, images: Tensor, labels: Tensor, step: int) -> None:
        """Take a new network after `outer_loop` matches; before that, train the present one on the images."""
        if self._matches == 0:
            self._adopt(random_network(self.options, self.task, self.draws(step, "network")))
        else:
            self._train(images, to_device(labels, images.device), self.draws(step, "training"))
        if has_batch_norm(self._network):
            counts = [min(_FOR_BATCH_NORM, count) for count in self._counts]
            real = [
                self.task.real_images(k, count, self.draws(step, "batch norm", k)) for k, count in enumerate(counts)
            ]
            with lent_to_global(self.draws(step, "batch norm"), self.task.device):
                freeze_batch_norm(self._network, real)

    def _train(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> None:
        """Train for `inner_loop` epochs on the synthetic images (N, C, H, W), augmented with one draw per image."""
        self._network.train()
        with lent_to_global(spawn(rng), images.device):  # for dropout
            for _ in range(self.options.inner_loop):
                order = to_device(torch.randperm(len(images), generator=rng), images.device)
                for rows in order.split(self.options.batch_train):
                    self._optimizer.zero_grad(set_to_none=True)
                    batch = self._dsa(images[rows], rng=rng)
                    cross_entropy(self._network(batch), labels[rows]).backward()
                    self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _adopt(self, network: Network) -> None:
        self._network = network
        self._optimizer = torch.optim.SGD(
            network.parameters(), lr=self.options.lr_net, momentum=self.options.momentum_net
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The base class's and, within an outer loop, the network with its optimiser's velocity."""
        state = {**super().state_dict(), "matches": torch.tensor(self._matches)}
        if self._matches:
            state |= {f"network.{name}": value for name, value in self._network.state_dict().items()}
            for name, parameter in self._network.named_parameters():
                velocity = self._optimizer.state[parameter].get("momentum_buffer")
                if velocity is not None:
                    state[f"velocity.{name}"] = velocity
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._matches = int(state["matches"])
        if not self._matches:
            return
        network = random_network(self.options, self.task, torch.Generator())
        prefix = "network."
        network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._adopt(network)
        for name, parameter in network.named_parameters():
            velocity = state.get(f"velocity.{name}")
            if velocity is not None:
                self._optimizer.state[parameter]["momentum_buffer"] = velocity.to(parameter.device).clone()


def _groups(labels: Tensor, at_once: int) -> Iterator[tuple[list[int], Tensor]]:
    """Group classes that have images, in order: up to `at_once` with equally many, and their rows (G, I).

    Labels are on the CPU.

    >>> [(classes, rows.tolist()) for classes, rows in _groups(torch.tensor([0, 0, 1, 1, 2]), 2)]
    [([0, 1], [[0, 1], [2, 3]]), ([2], [[4]])]
    """
    hard = likeliest(labels)
    rows = {k: (hard == k).nonzero().squeeze(1) for k in hard.unique().tolist()}
    for _, group in groupby(rows, lambda k: len(rows[k])):
        alike = list(group)
        for start in range(0, len(alike), at_once):
            classes = alike[start : start + at_once]
            yield classes, torch.stack([rows[k] for k in classes])

"""Gradient matching (DC): gradients of a network on real and on synthetic images of a class should agree.

Source: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, equations 7 to 10 and algorithm 1;
with siamese augmentation, Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.

A random network is matched once per step, and trained on the synthetic images between two steps; after `outer_loop` steps a
new one is drawn, of several networks by their weights. Published loops by images per class (outer/inner): 1: 1/1, 10: 10/50,
50: 50/10. GLaD and LD3M use 1/1 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import Match, Network, Objective, Task
from ld3m_plugin.devices.transfer import number, to_device
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.objectives.dc.dc_options import DCOptions
from ld3m_plugin.objectives.dc.distances import DISTANCES
from ld3m_plugin.objectives.dc.gradients import (
    classes_at_once,
    freeze_batch_norm,
    real_gradient,
    synthetic_gradients,
    vectorises,
)
from ld3m_plugin.objectives.dc.student import Student
from ld3m_plugin.objectives.matching import (
    augment_by_class,
    draws_by_class,
    has_batch_norm,
    notes_on_counts,
    random_network,
    real_counts,
    real_images_at_once,
)
from ld3m_plugin.objectives.matching_options import pool
from ld3m_plugin.objectives.network_pool import Balance, drawn, for_network
from ld3m_plugin.randomness import lent_to_global

#: Real images of each class for the statistics of batch norm; the published number.
_FOR_BATCH_NORM = 16


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
        self._balance = Balance(pool(self.options))
        self._matches = 0  # with the present networks
        self._students: list[Student] = []
        self._real_at_once = real_images_at_once(task)
        one = task.normalise(task.train.read(0, torch.arange(1)))
        per_class = int(hard_labels(labels).bincount().max())
        self._classes_at_once = {
            name: self._choose_classes_at_once(name, one, per_class) for name in pool(self.options)
        }

    def _choose_classes_at_once(self, name: str, image: Tensor, per_class: int) -> int:
        """The number in the options, or as many as fit; 1 unless it is shown that several give the same result."""
        chosen: int | None = self.options.classes_at_once
        # In eval mode nothing draws random numbers: a resumed run draws the same ones.
        network = random_network(self.options, self.task, torch.Generator(), name).eval()
        fitting = chosen or classes_at_once(network, image, per_class)
        wanted = min(fitting, self.task.num_classes)
        if wanted == 1 or vectorises(network, image):
            return wanted
        if chosen:
            raise InvalidOptionError(
                f"dc: classes_at_once = {chosen}: gradients of network {name!r} change when classes are taken "
                "together, or this cannot be checked: leave the option out to take classes one by one"
            )
        return 1

    def notes(self) -> tuple[str, ...]:
        return notes_on_counts(self.options, self.task)

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        images, labels = self.given(images, labels)
        self._next_networks(images.detach(), labels, step)
        shape = (self.options.batch_real, *images.shape[1:])
        # Siamese: one draw per class, for its real and its synthetic images; all networks see the same images.
        draws = draws_by_class(self, self._dsa, shape, step)
        augmented = augment_by_class(self._dsa, draws, images, labels)
        matches = {
            each.name: Match(*self._match(each, augmented.detach(), labels, draws, step)) for each in self._students
        }
        found = self._balance.combine(matches)
        (image_grad,) = torch.autograd.grad(augmented, images, found.image_grad)
        self._matches = (self._matches + 1) % self.options.outer_loop
        return replace(found, image_grad=image_grad)

    def _match(
        self, student: Student, images: Tensor, labels: Tensor, draws: list[DSADraw], step: int
    ) -> tuple[float | Tensor, Tensor]:
        """The loss and its gradient with respect to the augmented images (N, C, H, W), a few classes at a time."""
        distance, device = DISTANCES[self.options.distance], images.device
        total, gradient = torch.zeros((), dtype=torch.float64, device=device), torch.zeros_like(images)
        there = to_device(labels, device)
        for classes, on_cpu in _groups(labels, self._classes_at_once[student.name]):
            rows = to_device(on_cpu, device)
            real = [self._real_gradient(student.network, k, draws[k], step) for k in classes]
            part = images[rows].requires_grad_()
            with lent_to_global(self.draws(step, "dropout", classes[0]), device):
                synthetic = synthetic_gradients(student.network, part, there[rows])
            # Never in half precision: cosines of nearly parallel vectors.
            with torch.autocast(device.type, enabled=False):
                loss = distance([torch.stack(tensors) for tensors in zip(*real, strict=True)], synthetic).sum()
            (part_gradient,) = torch.autograd.grad(loss, part)
            gradient[rows] = part_gradient
            total += loss.detach().double()
        return number(total), gradient

    def _real_gradient(self, network: Network, k: int, draw: DSADraw, step: int) -> list[Tensor]:
        """The network's gradient on real images of class `k`."""
        real = self.task.real_images(k, self._counts[k], self.draws(step, "real", k))
        with lent_to_global(self.draws(step, "real dropout", k), real.device):
            return real_gradient(network, self._dsa.apply(real, draw), k, self._real_at_once)

    def _next_networks(self, images: Tensor, labels: Tensor, step: int) -> None:
        """Take new networks after `outer_loop` matches; before that, train the present ones on the images."""
        if self._matches == 0:
            names = drawn(self.options, self.draws(step, "pool"))
            self._students = [self._new(*each, step) for each in enumerate(names)]
        else:
            there, options = to_device(labels, images.device), self.options
            for each in self._students:
                rng = self.draws(step, *for_network(each.index, "training"))
                each.train(images, there, self._dsa, options.inner_loop, options.batch_train, rng)
        for network in (each.network for each in self._students if has_batch_norm(each.network)):
            counts = [min(_FOR_BATCH_NORM, count) for count in self._counts]
            real = [
                self.task.real_images(k, count, self.draws(step, "batch norm", k)) for k, count in enumerate(counts)
            ]
            with lent_to_global(self.draws(step, "batch norm"), self.task.device):
                freeze_batch_norm(network, real)

    def _new(self, index: int, name: str, step: int) -> Student:
        return self._student(index, name, self.draws(step, *for_network(index, "network")))

    def _student(self, index: int, name: str, rng: torch.Generator) -> Student:
        network = random_network(self.options, self.task, rng, name)
        return Student(name, index, network, self.options.lr_net, self.options.momentum_net)

    def state_dict(self) -> dict[str, Tensor]:
        """The base class's, largest gradients and, within an outer loop, the networks with their optimisers' velocities."""
        state = {**super().state_dict(), **self._balance.state_dict(), "matches": torch.tensor(self._matches)}
        if self._matches:
            names = pool(self.options)
            state["drawn"] = torch.tensor([names.index(each.name) for each in self._students])
            for each in self._students:
                state |= each.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._balance.load_state_dict(state)
        self._matches = int(state["matches"])
        if not self._matches:
            return
        names = pool(self.options)
        numbers = state["drawn"].tolist() if "drawn" in state else [0]  # older checkpoints have one network
        self._students = [self._student(i, names[k], torch.Generator()) for i, k in enumerate(numbers)]
        for each in self._students:
            each.load_state_dict(state)


def _groups(labels: Tensor, at_once: int) -> Iterator[tuple[list[int], Tensor]]:
    """Group classes that have images, in order: up to `at_once` with equally many, and their rows (G, I).

    Labels are on the CPU.

    >>> [(classes, rows.tolist()) for classes, rows in _groups(torch.tensor([0, 0, 1, 1, 2]), 2)]
    [([0, 1], [[0, 1], [2, 3]]), ([2], [[4]])]
    """
    hard = hard_labels(labels)
    rows = {k: (hard == k).nonzero().squeeze(1) for k in hard.unique().tolist()}
    for _, group in groupby(rows, lambda k: len(rows[k])):
        alike = list(group)
        for start in range(0, len(alike), at_once):
            classes = alike[start : start + at_once]
            yield classes, torch.stack([rows[k] for k in classes])

"""Matching training trajectories (MTT): a few steps on synthetic images should end where epochs on real images end.

Source: Cazenavette, Wang, Torralba, Efros and Zhu, "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
algorithm 1. A student starts from an expert's parameters after a random epoch, takes `syn_steps` steps on the synthetic images
at a learned rate, and is compared with the expert `expert_epochs` later (equation 2). Each step of a run uses one expert.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Match, Objective, Task
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import ExpertError, HostError, NonFiniteError
from ld3m_plugin.objectives.matching import check_no_batch_norm, cross_entropy, random_network
from ld3m_plugin.objectives.mtt import FOLDER, FOLDER_VARIABLE
from ld3m_plugin.objectives.mtt.experts import Experts, check_epochs, needed_epochs
from ld3m_plugin.objectives.mtt.fitting_form import fitting_form
from ld3m_plugin.objectives.mtt.mtt_options import MTTOptions
from ld3m_plugin.objectives.mtt.rate import LearnedRate
from ld3m_plugin.objectives.mtt.store import ExpertSettings, open_experts
from ld3m_plugin.objectives.mtt.unroll import GRADIENTS, StepLoss, Unroll
from ld3m_plugin.options import build
from ld3m_plugin.randomness import lent_to_global


class MTT(Objective):
    """Matches the end of a student's training with an expert, and learns the student's learning rate.

    Attributes:
        experts: trajectories to match; if not set before, `prepare` opens them from the folder in the options.
    """

    Options = MTTOptions
    experts: Experts | None = None

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        super().prepare(task, labels, rng)
        options = self.options
        self._dsa = DSA(options.dsa)
        self._network = random_network(options, task, torch.Generator()).train()
        check_no_batch_norm(options.network, self._network)
        if self.experts is None:
            root = options.experts or Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)
            architecture = {"network": options.network, "network_settings": options.network_settings}
            settings = build(ExpertSettings, {**options.expert_settings, **architecture}, "mtt: expert_settings")
            last = options.max_start_epoch - 1 + options.expert_epochs
            self.experts = open_experts(root, task, settings, last_epoch=last)
        check_epochs(self.experts, options.max_start_epoch, options.expert_epochs)
        self._check_size(self.experts)
        self._rate = LearnedRate(options.lr_teacher, options.lr_lr, options.momentum_lr)
        self._gradient: str = options.gradient
        if options.gradient == "auto":
            batch = (
                min(len(labels), options.batch_syn or len(labels)),
                task.channels,
                task.image_size,
                task.image_size,
            )
            self._gradient = fitting_form(self._network, batch, options.syn_steps, options.memory_budget)

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        images, labels = self.given(images, labels)
        start, target, epoch = self._draw_trajectory(self.draws(step, "trajectory"))
        start, target, labels = (to_device(tensor, images.device) for tensor in (start, target, labels))
        loss = self._student(images, labels, self.draws(step, "student"))
        problem = Unroll(loss, self.options.syn_steps, start, target)
        found = GRADIENTS[self._gradient](problem, images, self._rate.value)
        if not math.isfinite(found.loss) or not math.isfinite(found.rate_grad):
            raise NonFiniteError(
                f"the student's training on the images is not finite at step {step + 1}, with learning rate "
                f"{self._rate.value:g}: lower -O lr_teacher or -O lr_lr, or turn off autocast; the last good state is kept"
            )
        metrics = {"synthetic_learning_rate": self._rate.value, "start_epoch": float(epoch)}
        metrics["shortened_rate_step"] = float(self._rate.update(found.rate_grad))
        if self.options.gradient == "auto":
            metrics["unrolled"] = float(self._gradient == "unrolled")
        return Match(found.loss, found.image_grad, metrics)

    def learned(self) -> dict[str, float]:
        """The synthetic learning rate, with which networks should be trained on the images."""
        return {"synthetic_learning_rate": self._rate.value}

    def provenance(self) -> dict[str, str]:
        """A digest of the experts, so that a run is not resumed with others."""
        assert self.experts is not None  # noqa: S101 (prepare opened them)
        epochs = needed_epochs(self.options.max_start_epoch, self.options.expert_epochs)
        return {"experts_sha256": self.experts.digest(epochs)}

    def state_dict(self) -> dict[str, Tensor]:
        """The stream, the learned rate, and what `gradient=auto` chose."""
        chosen = torch.tensor(self._gradient == "unrolled")
        return {**super().state_dict(), **self._rate.state_dict(), "unrolled": chosen}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._rate.load_state_dict(state)
        if self.options.gradient == "auto":  # another version of torch may count other bytes: a run keeps its form
            self._gradient = "unrolled" if state["unrolled"] else "adjoint"

    def _draw_trajectory(self, rng: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Draw an expert and an epoch; returns start and target (P,), and the epoch of the start."""
        experts = self.experts
        assert experts is not None  # noqa: S101 (prepare opened them)
        expert = int(torch.randint(len(experts), (), generator=rng))
        epoch = int(torch.randint(self.options.max_start_epoch, (), generator=rng))
        ends = (epoch, epoch + self.options.expert_epochs)
        start, target = (experts.parameters(expert, which) for which in ends)
        if torch.equal(start, target):
            raise ExpertError(
                f"expert {expert} has the same weights after epochs {ends[0]} and {ends[1]}, and there is nothing to match: "
                "train other experts (at a higher rate, or in float32), or import a sound buffer"
            )
        return start, target, epoch

    def _student(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> StepLoss:
        """Draw all random numbers of a student's training; returns the loss of each of its steps."""
        rows = self._batches(len(images), rng)
        draws = [self._dsa.draw((len(batch), *images.shape[1:]), rng, siamese=False) for batch in rows]
        seeds = torch.randint(2**63 - 1, (len(rows),), generator=rng).tolist()
        rows = [to_device(batch, labels.device) for batch in rows]
        network, dsa = self._network, self._dsa
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        sizes = [shape.numel() for shape in shapes.values()]

        def loss(step: int, theta: Tensor, images: Tensor) -> Tensor:
            parts = zip(shapes.items(), theta.split(sizes), strict=True)
            weights = {name: part.view(shape) for (name, shape), part in parts}
            batch = dsa.apply(images[rows[step]], draws[step])
            # For dropout: a step that the backward pass recomputes must drop the same units.
            with lent_to_global(torch.Generator().manual_seed(seeds[step]), images.device):
                return cross_entropy(functional_call(network, weights, (batch,)), labels[rows[step]])

        return loss

    def _batches(self, count: int, rng: torch.Generator) -> list[Tensor]:
        """Draw the rows of each step's batch: pass after pass over all images, each in a new random order."""
        batches: list[Tensor] = []
        while len(batches) < self.options.syn_steps:
            batches += torch.randperm(count, generator=rng).split(self.options.batch_syn or count)
        return batches[: self.options.syn_steps]

    def _check_size(self, experts: Experts) -> None:
        expected = sum(parameter.numel() for parameter in self._network.parameters())
        found = tuple(experts.parameters(0, 0).shape)
        if found != (expected,):
            raise HostError(
                f"the experts have parameters {found}, but network {self.options.network!r} with these settings has {expected}: "
                "give the network_settings that they were trained with, or train others"
            )

"""Matching training trajectories (MTT): a few steps on synthetic images should lead where epochs on real images lead.

Source: Cazenavette, Wang, Torralba, Efros and Zhu, "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
algorithm 1. A student starts from an expert's parameters after a random epoch, makes `syn_steps` steps on the synthetic images
at a learned rate, and is compared with the expert `expert_epochs` later (equation 2). One expert a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.func import functional_call

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import Match, Network, Objective, Task
from ld3m_plugin.errors import ExpertError, HostError, NonFiniteError
from ld3m_plugin.objectives.matching import (
    NetworkOptions,
    cross_entropy,
    random_network,
)
from ld3m_plugin.objectives.mtt.experts import Experts, check_epochs, check_no_batch_norm, needed_epochs, open_experts
from ld3m_plugin.objectives.mtt.rate import LearnedRate
from ld3m_plugin.objectives.mtt.unroll import GRADIENTS, StepLoss, Unroll
from ld3m_plugin.randomness import lent_to_global


class MTTOptions(NetworkOptions):
    """Options of trajectory matching."""

    experts: Path | None = Field(
        None, description="folder of trained experts; default: $LD3M_EXPERTS, or 'experts' in the working folder"
    )
    expert_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="what else the experts were trained with (default: as `ld3m experts train` does)",
    )
    expert_epochs: int = Field(
        3, ge=1, description="epochs of the expert that the student has to cover (published: 2, 3)"
    )
    syn_steps: int = Field(20, ge=1, description="steps of the student on synthetic images (published: 10 to 80)")
    max_start_epoch: int = Field(5, ge=1, description="the student starts at an epoch below (published: 2 to 40)")
    batch_syn: int | None = Field(None, ge=1, description="synthetic images a step; default: all")
    lr_teacher: float = Field(0.01, gt=0, description="synthetic learning rate at the start")
    lr_lr: float = Field(1e-6, ge=0, description="learning rate of the synthetic learning rate (0 keeps it)")
    momentum_lr: float = Field(0.5, ge=0, lt=1, description="momentum of the synthetic learning rate (published: 0.5)")
    gradient: Literal["adjoint", "unrolled", "first-order"] = Field(
        "adjoint",
        description="exact at constant memory; the same through a graph of all steps; or an approximation (TESLA's)",
    )
    dsa: str = Field(
        "color_crop_cutout_flip_scale_rotate",
        description="DSA operations joined by '_', one drawn a student's step, its numbers for each image; 'none'",
    )

    @field_validator("expert_settings")
    @classmethod
    def _leave_the_network(cls, settings: dict[str, Any]) -> dict[str, Any]:
        taken = {"network", "network_settings"} & set(settings)
        if taken:
            raise ValueError(
                f"{', '.join(sorted(taken))} belongs to the objective itself: experts and student are of one kind"
            )
        return settings


class MTT(Objective):
    """Matches the end of a student's training with an expert's, and learns the student's learning rate.

    Attributes:
        experts: trajectories to match; set before `prepare`, or opened there from the folder that the options name.
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
            architecture = {"network": options.network, "network_settings": options.network_settings}
            last = options.max_start_epoch - 1 + options.expert_epochs
            self.experts = open_experts(task, options.experts, {**options.expert_settings, **architecture}, last)
        check_epochs(self.experts, options.max_start_epoch, options.expert_epochs)
        self._check_size(self.experts)
        self._rate = LearnedRate(options.lr_teacher, options.lr_lr, options.momentum_lr)

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        start, target, epoch = self._draw_trajectory()
        loss = self._student(images, labels.to(images.device))
        problem = Unroll(loss, self.options.syn_steps, start.to(images.device), target.to(images.device))
        found = GRADIENTS[self.options.gradient](problem, images, self._rate.value)
        if not math.isfinite(found.loss) or not math.isfinite(found.rate_grad):
            raise NonFiniteError(
                f"the student's training on the images is not finite at step {step + 1}: its learning rate is "
                f"{self._rate.value:g}; lower -O lr_teacher or -O lr_lr, or turn off autocast; the state before it is kept"
            )
        metrics = {"synthetic_learning_rate": self._rate.value, "start_epoch": float(epoch)}
        metrics["shortened_rate_step"] = float(self._rate.update(found.rate_grad))
        return Match(found.loss, found.image_grad, metrics)

    def learned(self) -> dict[str, float]:
        """The learning rate that the images were learned with, which networks trained on them should use."""
        return {"synthetic_learning_rate": self._rate.value}

    def provenance(self) -> dict[str, str]:
        """A digest of the experts, so that a run does not go on with others."""
        assert self.experts is not None  # noqa: S101 (prepare opened them)
        epochs = needed_epochs(self.options.max_start_epoch, self.options.expert_epochs)
        return {"experts_sha256": self.experts.digest(epochs)}

    def state_dict(self) -> dict[str, Tensor]:
        """The stream and the learned rate."""
        return {**super().state_dict(), **self._rate.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._rate.load_state_dict(state)

    def _draw_trajectory(self) -> tuple[Tensor, Tensor, int]:
        """Start and target (P,) out of a random expert, and the epoch of the start."""
        experts = self.experts
        assert experts is not None  # noqa: S101 (prepare opened them)
        expert = int(torch.randint(len(experts), (), generator=self.rng))
        epoch = int(torch.randint(self.options.max_start_epoch, (), generator=self.rng))
        ends = (epoch, epoch + self.options.expert_epochs)
        start, target = (experts.parameters(expert, which) for which in ends)
        if torch.equal(start, target):
            raise ExpertError(
                f"expert {expert} has the same weights after epochs {ends[0]} and {ends[1]}, so that there is nothing to match: "
                "make other experts (a higher rate, float32), or import a sound buffer"
            )
        return start, target, epoch

    def _student(self, images: Tensor, labels: Tensor) -> StepLoss:
        """The loss of each of the student's steps, all of whose random numbers are drawn here."""
        rows = self._batches(len(images))
        draws = [self._dsa.draw((len(batch), *images.shape[1:]), self.rng, siamese=False) for batch in rows]
        seeds = torch.randint(2**63 - 1, (len(rows),), generator=self.rng).tolist()
        return _Student(self._network, self._dsa, labels, rows, draws, seeds)

    def _batches(self, count: int) -> list[Tensor]:
        """Rows of the batch of each step: all images in a random order, in batches in turn, and again."""
        batches: list[Tensor] = []
        while len(batches) < self.options.syn_steps:
            batches += torch.randperm(count, generator=self.rng).split(self.options.batch_syn or count)
        return batches[: self.options.syn_steps]

    def _check_size(self, experts: Experts) -> None:
        expected = sum(parameter.numel() for parameter in self._network.parameters())
        found = tuple(experts.parameters(0, 0).shape)
        if found != (expected,):
            raise HostError(
                f"the experts hold parameters {found}, network {self.options.network!r} with these settings has {expected}: "
                "give the network_settings that they were trained with, or train others"
            )


class _Student:
    """The loss of a student's step as a function of its parameters and of all images."""

    def __init__(
        self, network: Network, dsa: DSA, labels: Tensor, rows: list[Tensor], draws: list[DSADraw], seeds: list[int]
    ) -> None:
        self._network, self._dsa, self._labels = network, dsa, labels
        self._rows, self._draws, self._seeds = [batch.to(labels.device) for batch in rows], draws, seeds
        self._names = [name for name, _ in network.named_parameters()]
        self._shapes = [parameter.shape for parameter in network.parameters()]
        self._sizes = [parameter.numel() for parameter in network.parameters()]

    def __call__(self, step: int, theta: Tensor, images: Tensor) -> Tensor:
        rows = self._rows[step]
        batch = self._dsa.apply(images[rows], self._draws[step])
        parts = zip(theta.split(self._sizes), self._shapes, strict=True)
        weights = dict(zip(self._names, (part.view(shape) for part, shape in parts), strict=True))
        # For dropout: a step that is computed again on the way back must leave out the same units.
        with lent_to_global(torch.Generator().manual_seed(self._seeds[step]), images.device):
            return cross_entropy(functional_call(self._network, weights, (batch,)), self._labels[rows])

"""What compares images with real data: objectives and the result of a match."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ld3m_plugin.contracts.backend_bases import StatefulBackend
from ld3m_plugin.devices.transfer import number
from ld3m_plugin.errors import HostError, WrongResultError
from ld3m_plugin.randomness import stream
from ld3m_plugin.task import Task


@dataclass(frozen=True)
class Match:
    """The result of an objective for a batch of images.

    Attributes:
        loss: the value, for the record: a number, or a tensor of one. A tensor on a device is read later, with those of other
            steps; `float()` of it waits for the device in every step.
        image_grad: dloss/dimages (N, C, H, W).
        metrics: more numbers for the record, likewise.
    """

    loss: float | Tensor
    image_grad: Tensor
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)


class Objective(StatefulBackend, ABC):
    """Compares synthetic images with real data and says in which direction the images should move.

    One host step is one `match` and one update of the latents. Learned scalars (a synthetic learning rate) and networks
    that are trained along the way are the objective's own state.
    """

    task: Task
    rng: torch.Generator

    def prepare(self, task: Task, labels: Tensor, rng: torch.Generator) -> None:
        """Called once before the first step.

        Args:
            task: real training images and facts; its test set cannot be reached from here.
            labels: class indices (N,) or probabilities (N, K) of the synthetic images, ordered by class.
            rng: the stream to draw from during the whole run, on the CPU.
        """
        self.task = task
        self.rng = rng
        self._seed = rng.initial_seed() % 2**63  # an int64 of the checkpoint holds it

    def draws(self, step: int, *name: str | int) -> torch.Generator:
        """A random stream for one purpose at one step, such as `draws(step, "real", k)` for the real images of class k.

        It depends on the run's seed and the arguments alone: neither the number of classes handled together nor what was drawn
        before changes it.
        """
        return stream(self._seed, step, *name)

    @abstractmethod
    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        """Loss and dloss/dimages for `images` (N, C, H, W), a leaf, at host step `step` (from 0).

        In a loop of one's own, `images.backward(match.image_grad)` goes on from there.
        """

    def given(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What `match` was given, checked: images as a leaf that requires gradients, whatever they were, and labels on the CPU.

        Raises:
            HostError: the objective is not prepared, or the tensors fit neither its task nor each other.
        """
        name, task = type(self).__name__, getattr(self, "task", None)
        if task is None:
            raise HostError(f"{name} is not prepared: call prepare(task, labels, rng) once, with a torch.Generator")
        expected = (task.channels, task.image_size, task.image_size)
        if not isinstance(images, Tensor) or images.ndim != 4 or tuple(images.shape[1:]) != expected:
            what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise HostError(f"{name}.match: images are {what}: give a tensor (N, {', '.join(map(str, expected))})")
        if not images.is_floating_point() or images.device.type != task.device.type:
            raise HostError(
                f"{name}.match: images are {images.dtype} on {images.device}: give normalised floats on {task.device}, where "
                "the task has its images"
            )
        _check_labels(name, labels, len(images), task.num_classes)
        leaf = images if images.is_leaf and images.requires_grad else images.detach().requires_grad_()
        return leaf, labels.cpu()

    def learned(self) -> dict[str, float]:
        """Numbers that were learned with the images and belong to them, such as `synthetic_learning_rate`; in the artefact's
        metadata as `learned`. The names are the same from `prepare` on."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Lines worth showing before the first step, such as what small data changes; called after `prepare`."""
        return ()

    def networks(self) -> tuple[str, ...]:
        """Registered architectures that the images are matched with, which tables call seen; default: the option `network`."""
        named = getattr(self.options, "network", None) or ()
        return (named,) if isinstance(named, str) else tuple(named)

    def state_dict(self) -> dict[str, Tensor]:
        """The random streams; subclasses add what else changes."""
        return {"rng": self.rng.get_state(), "seed": torch.tensor(self._seed)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.rng.set_state(state["rng"].cpu())
        self._seed = int(state.get("seed", self._seed))  # checkpoints of version 0.1 have none


def _check_labels(name: str, labels: Tensor, count: int, classes: int) -> None:
    shape = tuple(labels.shape) if isinstance(labels, Tensor) else None
    if shape is None or shape not in {(count,), (count, classes)}:
        raise HostError(
            f"{name}.match: labels are {shape or type(labels).__name__}: give class indices ({count},), or probabilities "
            f"({count}, {classes})"
        )
    is_index = not labels.is_floating_point()
    if is_index == (labels.ndim == 2) or (is_index and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise HostError(f"{name}.match: labels must be class indices 0 to {classes - 1}, or probabilities as floats")


class DifferentiableObjective(Objective):
    """The short way: write the loss, the base class differentiates it once."""

    @abstractmethod
    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor | tuple[Tensor, dict[str, float]]:
        """A scalar that depends differentiably on `images` (N, C, H, W); optionally with metrics for the record."""

    def match(self, images: Tensor, labels: Tensor, step: int) -> Match:
        images, labels = self.given(images, labels)
        with torch.enable_grad():
            result = self.loss(images, labels, step)
        value, metrics = result if isinstance(result, tuple) else (result, {})
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WrongResultError(
                f"{type(self).__name__}.loss gave {what if what != () else 'a number without a gradient'}: it must be a scalar "
                "tensor that depends differentiably on the images"
            )
        (image_grad,) = torch.autograd.grad(value, images, allow_unused=True)
        if image_grad is None:
            raise HostError(f"{type(self).__name__}.loss does not depend differentiably on the images")
        return Match(number(value), image_grad, metrics)

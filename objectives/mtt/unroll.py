"""The loss of a student's training on synthetic images, and its gradient with respect to the images and the learning rate.

Source: Cazenavette, Wang, Torralba, Efros and Zhu, "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
equation 2: ‖θ_T − target‖² / ‖start − target‖², where θ_{i+1} = θ_i − a·g_i, g_i = dℓ_i/dθ at θ_i, and a is learned as well.

Two forms give the same, exact gradient. `unrolled` keeps the graph of all steps, as published: memory grows with their number.
`adjoint` keeps the student's parameters of each step (for long trainings, of some steps) and goes backwards. With
v = dloss/dθ_T, at step i, s = ⟨g_i(θ_i, X_i), v⟩:

    dX_i += −a·ds/dX_i        da += −s        v += −a·ds/dθ_i

`first_order` omits the update of v: it neglects that later gradients depend on earlier images (as in Cui et al.,
"Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", ICML 2023, here with the factor of two of the square).

θ is flat, (P,), in the order of `module.parameters()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ld3m_plugin.devices.transfer import read_numbers

#: (step, θ (P,), images (N, C, H, W)) -> ℓ_i, a scalar. Pure: equal arguments give equal losses, also when called again.
StepLoss = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Unroll:
    """`steps` updates of plain gradient descent from `start`, compared with `target`.

    Attributes:
        loss_of_step: the student's loss on the synthetic batch of a step, given all images.
        start, target: parameters (P,).
    """

    loss_of_step: StepLoss
    steps: int
    start: Tensor
    target: Tensor

    def distance(self, end: Tensor) -> Tensor:
        """‖end − target‖² / ‖start − target‖²."""
        return (end - self.target).square().sum() / (self.start - self.target).square().sum()


@dataclass(frozen=True)
class TrajectoryGradient:
    """The loss, dloss/dimages (N, C, H, W) and dloss/drate."""

    loss: float
    image_grad: Tensor
    rate_grad: float


def unrolled(problem: Unroll, images: Tensor, rate: float) -> TrajectoryGradient:
    """Differentiate automatically through all steps."""
    images = images.detach().requires_grad_()
    learned = torch.full_like(problem.start[0], rate).requires_grad_()  # filled by the device: a copy would wait
    theta = problem.start.detach().requires_grad_()
    for step in range(problem.steps):
        (gradient,) = torch.autograd.grad(problem.loss_of_step(step, theta, images), theta, create_graph=True)
        theta = theta - learned * gradient
    loss = problem.distance(theta)
    image_grad, rate_grad = torch.autograd.grad(loss, (images, learned))
    ended, found = read_numbers((loss, rate_grad))
    return TrajectoryGradient(ended, image_grad, found)


def adjoint(problem: Unroll, images: Tensor, rate: float) -> TrajectoryGradient:
    """Give the same gradient with the graph of one step at a time, and θ of each step."""
    return _walk_back(problem, images, rate, through_parameters=True)


def first_order(problem: Unroll, images: Tensor, rate: float) -> TrajectoryGradient:
    """Approximate: as if the parameters of each step did not depend on earlier images."""
    return _walk_back(problem, images, rate, through_parameters=False)


GRADIENTS: Mapping[str, Callable[[Unroll, Tensor, float], TrajectoryGradient]] = {
    "adjoint": adjoint,
    "unrolled": unrolled,
    "first-order": first_order,
}


#: Up to so many steps, all parameters are kept. Longer trainings keep every √T-th and recompute the others.
_ALL_KEPT = 32


def _walk_back(problem: Unroll, images: Tensor, rate: float, *, through_parameters: bool) -> TrajectoryGradient:
    every = 1 if problem.steps <= _ALL_KEPT else math.isqrt(problem.steps)
    kept, end = [], problem.start.detach()
    for step in range(problem.steps):
        if step % every == 0:
            kept.append(end)
        end = _after(problem, step, end, images, rate)
    end.requires_grad_()
    loss = problem.distance(end)
    (v,) = torch.autograd.grad(loss, end)
    image_grad, rate_parts = torch.zeros_like(images), []
    between: list[Tensor] = []
    for step in reversed(range(problem.steps)):
        if not between:  # the last step of a stretch whose first parameters were kept
            between = [kept.pop()]
            for earlier in range(step - step % every, step):
                between.append(_after(problem, earlier, between[-1], images, rate))
        theta, leaf = between.pop().requires_grad_(), images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss_of_step(step, theta, leaf), theta, create_graph=True)
        along = (gradient * v).sum()  # not a matrix product: autocast would round it to half precision
        wanted = (leaf, theta) if through_parameters else (leaf,)
        towards_images, *towards_theta = torch.autograd.grad(along, wanted)
        image_grad.sub_(towards_images, alpha=rate)
        rate_parts.append(along.detach())
        for part in towards_theta:
            v = v.sub(part, alpha=rate)
    # One reading for all: the rate is a number of the host.
    ended, *found = read_numbers((loss, *rate_parts))
    return TrajectoryGradient(ended, image_grad, -sum(found))


def _after(problem: Unroll, step: int, theta: Tensor, images: Tensor, rate: float) -> Tensor:
    """Compute θ after `step`, without a graph."""
    leaf = theta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss_of_step(step, leaf, images.detach()), leaf)
    return theta.detach().sub(gradient, alpha=rate)

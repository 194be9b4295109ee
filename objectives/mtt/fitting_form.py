"""Which exact form of the gradient through a student's training fits in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from ld3m_plugin.budgets import GIB, saved_bytes, weight_bytes
from ld3m_plugin.contracts import Network
from ld3m_plugin.objectives.matching import cross_entropy
from ld3m_plugin.randomness import lent_to_global


def fitting_form(network: Network, batch: Sequence[int], steps: int, budget: float) -> str:
    """`unrolled` if the graph of all steps fits in `budget` GiB, else `adjoint`. See `graph_bytes` for the other arguments."""
    return "unrolled" if graph_bytes(network, batch, steps) <= budget * GIB else "adjoint"


def graph_bytes(network: Network, batch: Sequence[int], steps: int) -> int:
    """Bytes that the graph of a student's training keeps.

    A function of sizes alone, never of free memory: equal runs take the same form everywhere. Two small passes count the bytes
    of one image and those that do not grow with the images.

    Args:
        batch: shape (N, C, H, W) of the images of a step.
        steps: of the student.
    """
    images, *shape = batch
    one, two = (_step_bytes(network, (count, *shape)) for count in (1, 2))
    # Beside what its passes keep, each step keeps its parameters and their gradient.
    fixed = 2 * one - two + 2 * weight_bytes(network)
    return steps * (fixed + (two - one) * images)


def _step_bytes(network: Network, batch: Sequence[int]) -> int:
    """Bytes of activations that one step on images of shape `batch` keeps, so that its gradient can be differentiated."""
    device = next(network.parameters()).device
    weights = {name: parameter.detach().requires_grad_() for name, parameter in network.named_parameters()}
    images = torch.zeros(tuple(batch), device=device, requires_grad=True)
    labels = torch.zeros(batch[0], dtype=torch.long, device=device)

    def gradient() -> Tensor:
        loss = cross_entropy(functional_call(network, weights, (images,)), labels)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)])

    with lent_to_global(torch.Generator(), device):  # for dropout
        return saved_bytes(gradient, weights.values())

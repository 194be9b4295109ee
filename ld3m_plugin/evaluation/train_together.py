"""Training several networks of one architecture at once, each with the random numbers that it has when trained alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network
from ld3m_plugin.evaluation.protocols import Protocol
from ld3m_plugin.evaluation.stacked_networks import StackedNetworks
from ld3m_plugin.evaluation.train_network import epoch_batches, fit
from ld3m_plugin.randomness import lent_to_global, spawn, stream

#: Largest difference between the logits of a network alone and among others, as a share of the largest logit. TF32 has 1e-3.
_NEAR = 1e-2


@dataclass(frozen=True)
class Member:
    """A network before its training.

    Attributes:
        images: (N, C, H, W), normalised, on its device.
        labels: class indices (N,) or probabilities (N, K), on the device of the images.
        rng: draws the order of the images, the augmentation and dropout, as for `train_network.train`.
    """

    network: Network
    images: Tensor
    labels: Tensor
    rng: torch.Generator


def train_together(members: Sequence[Member], stacked: StackedNetworks, protocol: Protocol, rate: float) -> None:
    """Train the networks of `members`, which `stack` made one module of; their weights, or averages, are in them at the end.

    On the CPU the result is that of training one by one, up to rounding; on CUDA dropout draws other numbers.
    """
    device = members[0].images.device
    stacked.dropout.streams = tuple(_on_device(spawn(member.rng), device) for member in members)
    dsa = DSA(protocol.dsa)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        batches = (epoch_batches(m.images, m.labels, dsa, protocol.batch_size, m.rng) for m in members)
        for each in zip(*batches, strict=True):
            images, labels = zip(*each, strict=True)
            yield torch.stack(images), torch.stack(labels)

    fit(stacked, epoch, protocol, rate, _sum_of_losses).copy_to([member.network for member in members])


def stack(members: Sequence[Member]) -> StackedNetworks | str:
    """Make one module of several networks, or say why they can only be trained one by one.

    That is so if vmap refuses their forward pass, such as for random numbers that are not those of `nn.Dropout`, or if what it
    computes is not what the networks compute, as with tensors that are no parameters and no buffers.
    """
    images = torch.stack([member.images[:2] for member in members])
    try:
        stacked = StackedNetworks([member.network for member in members])
        return _difference(stacked, members, images) or stacked
    except RuntimeError as error:
        return f"vmap refuses it ({str(error).splitlines()[0]})"


@torch.no_grad()
def _difference(stacked: StackedNetworks, members: Sequence[Member], images: Tensor) -> str | None:
    """Compare logits in evaluation mode, and try a pass in training mode, without a trace in buffers or random streams."""
    with lent_to_global(stream(0, "trial"), images.device):
        alone = torch.stack([m.network.eval()(some) for m, some in zip(members, images, strict=True)])
        among = stacked.eval()(images)
        before = [buffer.clone() for buffer in stacked.buffers()]
        stacked.dropout.streams = tuple(_on_device(stream(0, "trial", i), images.device) for i in range(len(members)))
        stacked.train()(images)
    for buffer, value in zip(stacked.buffers(), before, strict=True):
        buffer.copy_(value)
    if alone.shape != among.shape or not torch.allclose(alone, among, 0, _NEAR * float(alone.abs().max()), True):
        return "vmap computes something else"
    return None


def _sum_of_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of the mean losses of all networks, of (networks, N, K) and (networks, N) or (networks, N, K)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(0, 1)) * len(logits)


def _on_device(rng: torch.Generator, device: torch.device) -> torch.Generator:
    return rng if device.type == "cpu" else torch.Generator(device).manual_seed(rng.initial_seed())

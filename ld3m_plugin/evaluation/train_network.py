"""Training one network on a few images, and its accuracy on the test set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.data.numbered_images import evenly_spaced
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import HostError
from ld3m_plugin.evaluation.protocols import Protocol
from ld3m_plugin.evaluation.stacked_networks import StackedNetworks
from ld3m_plugin.evaluation.test_images import TestImages
from ld3m_plugin.networks.build import for_forward, for_training
from ld3m_plugin.networks.learning_rate import warmup_cosine
from ld3m_plugin.randomness import lent_to_global, spawn

#: A network, or several as one module.
Trained = TypeVar("Trained", bound=nn.Module)

_WARMUP_START = 1e-7

#: Devices whose SGD updates a weight in one pass, to the same bits.
_FUSED = ("cpu", "cuda")


def rate_factor(epoch: int, protocol: Protocol) -> float:
    """Compute the factor on the learning rate in `epoch` (from 0): linear warm-up, then the protocol's schedule.

    >>> from ld3m_plugin.evaluation.protocols import get_protocol
    >>> [round(rate_factor(epoch, get_protocol("glad-2023")), 3) for epoch in (0, 250, 500, 750, 1000)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if protocol.schedule == "drop" and epoch >= protocol.warmup_epochs:
        return 1.0 if epoch <= protocol.epochs // 2 else 0.1
    return warmup_cosine(epoch, protocol.epochs, protocol.warmup_epochs, start=_WARMUP_START)


class WeightAverage(Generic[Trained]):
    """An exponential moving average of a network's weights, updated once an epoch.

    Source: GLaD's evaluation. After n updates the decay is 1 − 1/(1 + n), a plain average, until it reaches `decay`. Buffers
    such as statistics of batch norm are averaged too; counters are copied.
    """

    def __init__(self, network: Trained, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, network: Trained) -> None:
        """Add the weights of `network` to the average."""
        self._updates += 1
        decay = min(self._decay, 1 - 1 / self._updates)
        pairs = zip(self.network.state_dict(keep_vars=True).values(), network.state_dict().values(), strict=True)
        # By identity: a tensor that two layers share has two names, and is averaged once.
        for mean, value in {id(mean): (mean, value) for mean, value in pairs}.values():
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def train(
    network: Network, images: Tensor, labels: Tensor, protocol: Protocol, rate: float, rng: torch.Generator
) -> Network:
    """Train `network`, and return the network to test: itself, or its weight average.

    Args:
        images: (N, C, H, W), normalised.
        labels: class indices (N,) or probabilities (N, K), on the device of the images.
        rate: learning rate.
        rng: draws the order of the images and the augmentation.
    """
    dsa, network = DSA(protocol.dsa), for_training(network)
    # Dropout draws from the global stream, so that stream is seeded from `rng` for the time of the training.
    with lent_to_global(spawn(rng), images.device):
        return fit(network, lambda: epoch_batches(images, labels, dsa, protocol.batch_size, rng), protocol, rate)


def epoch_batches(
    images: Tensor, labels: Tensor, dsa: DSA, batch_size: int, rng: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over augmented images and their labels in a random order, a batch at a time; `train` has the arguments."""
    order = to_device(torch.randperm(len(images), generator=rng), images.device)
    for which in order.split(batch_size):
        yield dsa(images[which], rng=rng), labels[which]


def fit(
    network: Trained,
    epoch: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    protocol: Protocol,
    rate: float,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Trained:
    """Train `network` by `protocol`, and return it, or its weight average.

    Args:
        epoch: gives the batches of each epoch.
        loss: of logits and labels.
    """
    optimizer = _optimizer(network, protocol, rate)
    average = None if protocol.ema is None else WeightAverage(network, protocol.ema)
    network.train()
    for number in range(protocol.epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_factor(number, protocol)
        for images, labels in epoch():
            optimizer.zero_grad(set_to_none=True)
            loss(network(images), labels).backward()
            if protocol.gradient_clip is not None:
                clip_gradients(network, protocol.gradient_clip)
            optimizer.step()
        if average is not None:
            average.update(network)
    return network if average is None else average.network


def clip_gradients(network: nn.Module, largest: float) -> None:
    """Scale the gradient of a network, or of each of several, down to the L2 norm `largest` if it is larger."""
    if isinstance(network, StackedNetworks):
        network.clip_gradients(largest)
    else:
        nn.utils.clip_grad_norm_(network.parameters(), largest)


def _optimizer(network: nn.Module, protocol: Protocol, rate: float) -> torch.optim.Optimizer:
    weights = list(network.parameters())
    return torch.optim.SGD(
        weights,
        lr=rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
        fused=all(weight.device.type in _FUSED for weight in weights) or None,
    )


def accuracy(network: Network, task: Task, per_class: int | None = None) -> float:
    """Compute the share of test images that `network` classifies correctly, in percent.

    Args:
        per_class: number of test images of each class, evenly spaced over it; default: all.
    """
    return share_correct(predict(network, task, per_class), test_labels(task, per_class))


def share_correct(predicted: Tensor, labels: Tensor) -> float:
    """Compute the share of predicted classes (n,) that are the labels (n,), in percent."""
    return 100 * int((predicted == labels).sum()) / len(labels)


@torch.no_grad()
def predict(network: Network, task: Task, per_class: int | None = None, images: TestImages | None = None) -> Tensor:
    """Predict the class of each test image: (n,) int64, on the CPU, in the order of `test_images.read_batches`.

    Args:
        images: the test images of `task` and `per_class`, where several networks see them; default: read for this one.
    """
    network = for_forward(network.eval())
    found = []
    for batch in (images or TestImages(task, per_class)).batches():
        logits = network(batch)
        if logits.shape != (len(batch), task.num_classes):
            raise HostError(
                f"{type(network).__name__} gave logits {tuple(logits.shape)} for {len(batch)} images of {task.num_classes} "
                "classes"
            )
        found.append(logits.argmax(1))  # read once, when all is computed
    return torch.cat(found).cpu()


def test_labels(task: Task, per_class: int | None) -> Tensor:
    """The classes of the test images: (n,) int64, class by class."""
    used = torch.tensor([len(evenly_spaced(count, per_class)) for count in task.test.counts()])
    return torch.arange(len(used)).repeat_interleave(used)


def test_groups(task: Task, per_class: int | None) -> Tensor | None:
    """The groups of the test images: (n,) int64; None where the task has none."""
    if task.test_groups is None:
        return None
    by_class = torch.tensor(task.test_groups).split(list(task.test.counts()))
    return torch.cat([groups[evenly_spaced(len(groups), per_class)] for groups in by_class])

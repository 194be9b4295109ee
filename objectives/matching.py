"""Shared parts of the matching objectives: their network, and how images are drawn and augmented."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.contracts import Network, Objective, Task
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.objectives.matching_options import MatchingOptions, Networks, pool, settings_of

#: Pixels of real images in one pass on a CPU, 32 images of 32x32: as fast as more (docs/speed.md), and little memory. Elsewhere
#: a pass is launches first of all, so it has more. Bits depend on it.
_PIXELS_AT_ONCE = {"cpu": 2**15}
_PIXELS_AT_ONCE_ELSEWHERE = 2**20
_NAMED = 5  # classes in a note


def real_images_at_once(task: Task) -> int:
    """How many real images of the task go through a network in one pass: a constant of their size and the device, at least 1."""
    pixels = _PIXELS_AT_ONCE.get(task.device.type, _PIXELS_AT_ONCE_ELSEWHERE)
    return max(1, pixels // task.image_size**2)


def real_counts(options: MatchingOptions, task: Task) -> list[int]:
    """How many real images of each class a step draws: `batch_real`, or all where a class has fewer.

    Raises:
        DataError: a class has none.
    """
    counts = task.train.counts()
    for name, count in zip(task.class_names, counts, strict=True):
        if count == 0:
            raise DataError(
                f"class {name!r} has no training image ({task.train.origin}): add some, or remove the class"
            )
    return [min(options.batch_real, count) for count in counts]


def notes_on_counts(options: MatchingOptions, task: Task) -> tuple[str, ...]:
    """Say of which classes a step draws all images, since they have fewer than `batch_real`."""
    small = {n: c for n, c in zip(task.class_names, task.train.counts(), strict=True) if c < options.batch_real}
    if not small:
        return ()
    listed = ", ".join(f"{name!r} ({count})" for name, count in list(small.items())[:_NAMED])
    more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
    return (f"fewer images than batch_real = {options.batch_real}: each step takes all images of {listed}{more}",)


def random_network(options: Networks, task: Task, rng: torch.Generator, name: str | None = None) -> Network:
    """Make a newly initialised network for the task, on its device; `rng` alone decides the weights.

    Args:
        name: which of several networks; default: the first.
    """
    name = pool(options)[0] if name is None else name
    return network_for(task, name, settings_of(options, name), rng)


def has_batch_norm(network: Network) -> bool:
    """Whether the network has batch norm: its output depends on the whole batch, or on running statistics."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def has_dropout(network: Network) -> bool:
    """Whether the network drops units: in one pass over several classes, the number of classes changes which."""
    return any(isinstance(module, _DropoutNd) for module in network.modules())


def check_no_batch_norm(name: str, network: Network) -> None:
    """Raise `InvalidOptionError` if the network has batch norm: an expert stores parameters, not running statistics."""
    if has_batch_norm(network):
        raise InvalidOptionError(
            f"network {name!r} has batch norm, whose running statistics experts do not store: choose another norm, "
            "such as network_settings={norm: instancenorm}"
        )


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights (K, N) of each image in the mean of its class; a row sums to one, or to zero for a class without images.

    Args:
        labels: class indices (N,) or probabilities (N, K).
    """
    shares = labels if labels.ndim == 2 else F.one_hot(labels, num_classes)
    shares = shares.float().T
    return shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def cross_entropy(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of logits (N, K), computed in at least float32 whatever the precision of the network.

    Args:
        labels: class indices (N,) or probabilities (N, K).
    """
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels, reduction=reduction)


def draws_by_class(objective: Objective, dsa: DSA, shape: Sequence[int], step: int) -> list[DSADraw]:
    """One siamese draw for each of the K classes, for the real and the synthetic images of the class at this step."""
    classes = range(objective.task.num_classes)
    return [dsa.draw(shape, objective.draws(step, "augmentation", k), siamese=True) for k in classes]


def augment_by_class(dsa: DSA, draws: Sequence[DSADraw], images: Tensor, labels: Tensor) -> Tensor:
    """Augment synthetic images (N, C, H, W), each with the draw of its class; keep their order.

    Args:
        draws: one siamese draw for each of the K classes, also used for the real images of the class.
        labels: class indices (N,) or probabilities (N, K), on the CPU.
    """
    hard = hard_labels(labels)
    order = hard.argsort(stable=True)
    parts = images[to_device(order, images.device)].split(hard.bincount(minlength=len(draws)).tolist())
    augmented = [dsa.apply(part, draw) if len(part) else part for part, draw in zip(parts, draws, strict=True)]
    return torch.cat(augmented)[to_device(order.argsort(), images.device)]

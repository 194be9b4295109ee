"""Gradients of the loss with respect to a network's parameters, on real images in parts and on synthetic ones by class."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from ld3m_plugin.budgets import GIB, saved_bytes
from ld3m_plugin.contracts import Network
from ld3m_plugin.objectives.matching import cross_entropy

#: GiB for the gradients of synthetic images. A fixed number, not the free memory, so that bits are the same everywhere.
_BUDGET = 4
#: A backward pass needs the tensors saved by the forward pass, gradients of a layer or two, and a workspace.
_BESIDE_SAVED = 2
#: Relative tolerance in float64, and the share of all gradients below which one is zero up to rounding.
_SAME, _NOTHING = 1e-6, 1e-12


def real_gradient(network: Network, images: Tensor, class_index: int, at_once: int) -> list[Tensor]:
    """Gradient of the mean cross-entropy of real images (B, C, H, W) of one class, `at_once` images at a time.

    Sums the loss over parts and divides by B: the gradient of the mean, whatever the sizes of the parts.

    Returns:
        One tensor per parameter, of its shape.
    """
    parameters = list(network.parameters())
    total: list[Tensor] = []
    for part in images.split(at_once):
        labels = torch.full((len(part),), class_index, device=part.device)
        loss = cross_entropy(network(part), labels, reduction="sum") / len(images)
        gradients = torch.autograd.grad(loss, parameters)
        total = [a + b for a, b in zip(total, gradients, strict=True)] if total else list(gradients)
    return total


def synthetic_gradients(network: Network, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Gradients of the mean cross-entropy of each of G classes, differentiable with respect to the images.

    Args:
        images: (G, I, C, H, W).
        labels: class indices (G, I) or probabilities (G, I, K).

    Returns:
        One tensor (G, *shape) per parameter.
    """
    if len(images) == 1:  # the same without transforms, which cost more than they save
        loss = cross_entropy(network(images[0]), labels[0])
        return [g[None] for g in torch.autograd.grad(loss, list(network.parameters()), create_graph=True)]
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def loss_of_class(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, weights, (images,)), labels)

    by_name = vmap(grad(loss_of_class), in_dims=(None, 0, 0), randomness="different")(weights, images, labels)
    return [by_name[name] for name in weights]


def classes_at_once(network: Network, image: Tensor, per_class: int) -> int:
    """How many classes of `per_class` images like `image` (1, C, H, W) fit in 4 GiB, differentiated twice; at least 1."""
    images = image[None].detach().requires_grad_()
    labels = torch.zeros((1, 1), dtype=torch.long, device=image.device)
    kept = saved_bytes(lambda: torch.cat([g.flatten() for g in synthetic_gradients(network, images, labels)]))
    return max(1, int(_BUDGET * GIB / (_BESIDE_SAVED * per_class * max(kept, 1))))


def vectorises(network: Network, image: Tensor) -> bool:
    """Whether two classes together are shown to give the gradients of one by one, to first and second order.

    torch.func cannot map every layer, and gets the second derivative of some wrong (layer norm, torch 2.14). False for a network
    that cannot be copied or run in double precision: one class at a time is always right.

    Args:
        image: (1, C, H, W).
    """
    # In single precision, rounding can be as large as the error of a wrong derivative.
    pixels = torch.linspace(-9, 9, 2 * image.numel(), dtype=torch.float64).cos().view(2, *image.shape)

    def passed_back(images: Tensor, labels: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        sizes = torch.stack([g.flatten(1).square().sum(1) for g in synthetic_gradients(copied, images, labels)])
        # Logarithms: layers with small gradients count too, except those that are zero up to rounding.
        shares = sizes / sizes.detach().sum(0) + _NOTHING
        return torch.autograd.grad(shares.log().sum(), images)[0]

    labels = torch.zeros((2, 1), dtype=torch.long)
    try:
        copied = copy.deepcopy(network).to("cpu", torch.float64)
        one_by_one = torch.cat([passed_back(pixels[k : k + 1], labels[k : k + 1]) for k in range(2)])
        together = passed_back(pixels, labels)
    except RuntimeError:
        return False
    return bool((together - one_by_one).norm() <= _SAME * one_by_one.norm())


def freeze_batch_norm(network: Network, real: Sequence[Tensor]) -> None:
    """Update the running statistics of batch norm on real images, and make the layers use them for matching.

    Source: the published code. One synthetic image is too small a batch for statistics.

    Args:
        real: images (B, C, H, W) of each class.
    """
    network.train()
    with torch.no_grad():
        network(torch.cat(list(real)))
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()

"""Several networks of one architecture as one module, whose weights have one more dimension in front.

`torch.func.vmap` maps the forward pass over that dimension, so that each operation runs once for all networks. Nothing flows
between them: sums run within a network alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ld3m_plugin.contracts import Network

#: In names of stacked weights, for the dot that torch allows in no name.
_DOT = ":"


class Dropouts:
    """All dropout of several networks: each draws from a stream of its own; copies of a module share them.

    Masks of a whole pass are drawn before it, since `vmap` shows a layer only one network. Their shapes are learned once for each
    shape of images.

    Attributes:
        streams: of each network, on the device of its weights.
    """

    def __init__(self) -> None:
        self.streams: tuple[torch.Generator, ...] = ()
        self._learned: dict[torch.Size, list[tuple[torch.Size, float]]] = {}
        self._met: list[tuple[torch.Size, float]] | None = None
        self._masks: Iterator[Tensor] = iter(())

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def draw(self, images: Tensor, learn: Callable[[], object]) -> list[Tensor]:
        """Draw what the layers of a pass multiply their features with, (networks, N, ...) each, in the order of the layers.

        Args:
            images: of all networks, (networks, N, C, H, W).
            learn: a pass without any effect.
        """
        if images.shape not in self._learned:
            self._met = []
            try:
                learn()
                self._learned[images.shape] = self._met
            finally:
                self._met = None
        masks = [
            torch.empty((len(self.streams), *shape), dtype=images.dtype, device=images.device)
            for shape, _ in self._learned[images.shape]
        ]
        for mask, (_, share) in zip(masks, self._learned[images.shape], strict=True):
            for part, stream in zip(mask, self.streams, strict=True):
                part.bernoulli_(share, generator=stream)  # on the CPU the numbers that nn.Dropout draws
            mask.div_(share)
        return masks

    def use(self, masks: Sequence[Tensor]) -> None:
        """Take masks of one network for the pass that begins."""
        self._masks = iter(masks)

    def applied(self, features: Tensor, share: float) -> Tensor:
        """Features (N, ...) of one network times the next mask."""
        if self._met is not None:
            self._met.append((features.shape, share))
            return features
        return features * next(self._masks)


class StackedNetworks(nn.Module):
    """Networks of one architecture, trained as one module.

    Weights of linear layers are held transposed: their gradients come in that layout, and are not copied.

    Args:
        networks: of one architecture, on one device; their weights are copied.

    Attributes:
        dropout: its `streams` are set before training.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.dropout = Dropouts()
        skeleton = copy.deepcopy(networks[0]).to("meta")
        _replace_dropout(skeleton, self.dropout)
        self._transposed = {f"{name}.weight" for name, part in skeleton.named_modules() if type(part) is nn.Linear}
        for kind in ("parameter", "buffer"):
            each = [dict(getattr(network, f"named_{kind}s")()) for network in networks]
            for name, first in each[0].items():
                stacked = torch.stack([self._turned(name, values[name].detach()) for values in each])
                if kind == "parameter":
                    self.register_parameter(name.replace(".", _DOT), nn.Parameter(stacked, first.requires_grad))
                else:
                    self.register_buffer(name.replace(".", _DOT), stacked)
        self._skeleton = (skeleton,)  # in a tuple: no submodule, its weights are not trained

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode, of the skeleton too."""
        self._skeleton[0].train(mode)
        return super().train(mode)

    def _turned(self, name: str, weight: Tensor) -> Tensor:
        return weight.mT if name in self._transposed else weight

    def forward(self, images: Tensor) -> Tensor:
        """Logits (networks, N, K) of images (networks, N, C, H, W)."""
        masks: list[Tensor] = self.dropout.draw(images, lambda: self._try(images)) if self.training else []
        return self._mapped(dict(self.named_buffers()), masks, images)

    @torch.no_grad()
    def _try(self, images: Tensor) -> None:
        """Pass images through all networks, and leave their buffers as they are."""
        self._mapped({name: value.clone() for name, value in self.named_buffers()}, [], images)

    def _mapped(self, buffers: dict[str, Tensor], masks: list[Tensor], images: Tensor) -> Tensor:
        weights = {name.replace(_DOT, "."): value for name, value in (*self.named_parameters(), *buffers.items())}
        turned = {name: self._turned(name, value) for name, value in weights.items()}
        logits: Tensor = vmap(self._one)(turned, masks, images)
        return logits

    def _one(self, weights: dict[str, Tensor], masks: list[Tensor], images: Tensor) -> Tensor:
        self.dropout.use(masks)
        logits: Tensor = functional_call(self._skeleton[0], weights, (images,))
        return logits

    @torch.no_grad()
    def copy_to(self, networks: Sequence[Network]) -> None:
        """Copy the weights and buffers back to the networks that they came from."""
        for index, network in enumerate(networks):
            for name, value in (*network.named_parameters(), *network.named_buffers()):
                value.copy_(self._turned(name, getattr(self, name.replace(".", _DOT))[index]))

    @torch.no_grad()
    def clip_gradients(self, largest: float) -> None:
        """Scale the gradient of each network whose L2 norm is larger than `largest` down to it."""
        gradients = [value.grad for value in self.parameters() if value.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        scales = (largest / (norms + 1e-6)).clamp(max=1)  # as in nn.utils.clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(scales.view(-1, *[1] * (gradient.ndim - 1)))


class _StackedDropout(nn.Module):
    """Dropout that draws from the stream of each network."""

    def __init__(self, share: float, dropouts: Dropouts) -> None:
        super().__init__()
        self._share, self._dropouts = share, dropouts

    def forward(self, features: Tensor) -> Tensor:
        """Features of one network, with a random share of them set to zero in training."""
        return self._dropouts.applied(features, self._share) if self.training else features


def _replace_dropout(module: nn.Module, dropouts: Dropouts) -> None:
    for name, part in module.named_children():
        if type(part) is nn.Dropout and part.p > 0:
            setattr(module, name, _StackedDropout(1 - part.p, dropouts))
        else:
            _replace_dropout(part, dropouts)

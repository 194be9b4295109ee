"""Several networks of one architecture as one module, whose weights have one more dimension in front.

`torch.func.vmap` maps the forward pass over that dimension, so that each operation runs once for all networks. Nothing flows
between them: sums run within a network alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import Function
from torch.func import functional_call, vmap

from ld3m_plugin.contracts import Network

#: In names of stacked weights, for the dot that torch allows in no name.
_DOT = ":"


class DropoutStreams:
    """A random stream for each network, on the device of its weights, from which its dropout draws; copies share them."""

    def __init__(self) -> None:
        self.streams: tuple[torch.Generator, ...] = ()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def kept(self, features: Tensor, share: float) -> Tensor:
        """1/share where a feature of (networks, ...) is kept, else 0; on the CPU the numbers that `nn.Dropout` draws."""
        masks = torch.empty(features.shape, dtype=features.dtype, device=features.device)
        for mask, stream in zip(masks, self.streams, strict=True):
            mask.bernoulli_(share, generator=stream)
        return masks.div_(share)


class StackedNetworks(nn.Module):
    """Networks of one architecture, trained as one module.

    Weights of linear layers are held transposed: their gradients come in that layout, and are not copied.

    Args:
        networks: of one architecture, on one device; their weights are copied.

    Attributes:
        dropout: the streams of the dropout; set before training.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.dropout = DropoutStreams()
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
        weights = {name.replace(_DOT, "."): value for name, value in (*self.named_parameters(), *self.named_buffers())}
        turned = {name: self._turned(name, value) for name, value in weights.items()}
        logits: Tensor = vmap(self._one)(turned, images)
        return logits

    def _one(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
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

    def __init__(self, share: float, streams: DropoutStreams) -> None:
        super().__init__()
        self._share, self._streams = share, streams

    def forward(self, features: Tensor) -> Tensor:
        """Features of one network, as vmap shows them, with a random share of them set to zero in training."""
        if not self.training:
            return features
        mask: Tensor = _Kept.apply(features.detach(), self._share, self._streams)
        return features * mask


class _Kept(Function):
    """What dropout multiplies features with; only vmap knows that there are several networks."""

    @staticmethod
    def forward(_features: Tensor, _share: float, _streams: DropoutStreams) -> Tensor:
        raise RuntimeError("dropout of features that do not depend on the images or weights of a network")

    @staticmethod
    def setup_context(ctx: Any, _inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(_ctx: Any, *_gradients: Any) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(
        _info: Any, in_dims: tuple[int, None, None], features: Tensor, share: float, streams: DropoutStreams
    ) -> tuple[Tensor, int]:
        return streams.kept(features.movedim(in_dims[0], 0), share), 0


def _replace_dropout(module: nn.Module, streams: DropoutStreams) -> None:
    for name, part in module.named_children():
        if type(part) is nn.Dropout and part.p > 0:
            setattr(module, name, _StackedDropout(1 - part.p, streams))
        else:
            _replace_dropout(part, streams)

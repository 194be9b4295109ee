"""Activation checkpointing (Chen et al. 2016) that keeps the inputs of a function, and builds no graph in its forward pass.

`torch.utils.checkpoint` without reentrance keeps the nodes of the whole graph, thousands of small blocks among the large ones
that are freed: the heap of the C library then grows with every call. With reentrance, it refuses `torch.autograd.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def recomputed(function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """Compute `function(*inputs)`; the backward pass, which can be differentiated no further, computes it once more.

    Args:
        function: deterministic; every tensor that needs a gradient is among its inputs.
    """
    output: Tensor = _Recomputed.apply(function, *inputs)
    return output


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        output = function(*inputs)
        kind = output.device.type
        ctx.function = function
        ctx.precision = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        ctx.save_for_backward(*inputs)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        leaves = [
            None if tensor is None else tensor.detach().requires_grad_(asked)
            for tensor, asked in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad(), torch.autocast(*ctx.precision):
            output = ctx.function(*leaves)
        asked = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
        found = iter(torch.autograd.grad(output, asked, gradient, allow_unused=True))
        return None, *(next(found) if asked_for else None for asked_for in needed)

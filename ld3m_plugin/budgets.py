"""Memory use: images that fit in one forward pass, and bytes that autograd keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30
# A forward without a graph holds the input and the output of one layer, and a workspace of about the same size.
_LIVE_AT_ONCE = 3


class _LargestOutput(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor that any operation produces."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.nbytes)
        return result


def images_at_once(forward: Callable[[Tensor], Tensor], image: Tensor, budget: float) -> int:
    """Compute how many images like `image` (1, C, H, W) fit in one graph-free `forward` within `budget` GiB; at least 1.

    The budget is a fixed number, not the free memory, so that a run splits its batches equally on every machine and stays
    bit-identical.
    """
    with torch.no_grad(), _LargestOutput() as largest:
        forward(image)
    return max(1, int(budget * GIB / (_LIVE_AT_ONCE * largest.bytes)))


def saved_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor] = ()) -> int:
    """Count the bytes that autograd keeps for the backward pass of `forward`, each storage once.

    Args:
        weights: tensors that exist anyway; they and their views, such as a transposed weight, are not counted.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in weights}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # kept until the count is done, so that no freed address is used again
    del result
    return sum(kept.values())


def weight_bytes(*modules: nn.Module) -> int:
    """Bytes of the parameters and buffers of `modules`, as they are in memory."""
    return sum(tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers()))

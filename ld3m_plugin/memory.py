"""How much fits in memory, and how the C library's allocator is told to keep what it has."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30
# A forward without a graph holds the input and the output of one layer, and a workspace of about the same size.
_LIVE_AT_ONCE = 3

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MAPPED = 64 * 2**10
#: Environment variable that makes `keep_freed_memory` do the opposite.
RETURN_VARIABLE = "LD3M_RETURN_MEMORY"


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
    """How many images like `image` (1, C, H, W) one graph-free `forward` may take within `budget` GiB; at least 1.

    The budget is a number and not what happens to be free, so that the same run is cut in the same places everywhere and
    stays bit-identical.
    """
    with torch.no_grad(), _LargestOutput() as largest:
        forward(image)
    return max(1, int(budget * GIB / (_LIVE_AT_ONCE * largest.bytes)))


def saved_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of `forward`, each storage counted once.

    Args:
        weights: tensors that are there anyway; neither they nor views of them, such as a transposed weight, are counted.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in weights}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # held until the count is done, so that no storage is counted under a freed one's address
    del result
    return sum(kept.values())


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks instead of returning them to the kernel; True where that is possible.

    Activations on the CPU are large blocks that are freed and wanted again in the next layer. By default each is mapped
    afresh, and the page faults cost more than the arithmetic (docs/results.md has the measurement). Called by the command
    line, never on import: the setting is the whole process's.
    """
    if os.environ.get(RETURN_VARIABLE) == "1":
        return_freed_memory()
        return False
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Tell glibc to map every block of 64 KiB and more by itself and to unmap it when it is freed; True where that is possible.

    Slower, and without holes: a heap that long-lived small blocks are scattered over grows with every denoising step that is
    recomputed, whether freed memory is kept or not (docs/results.md has the measurement). `LD3M_RETURN_MEMORY=1` asks for it.
    """
    return _mallopt((_M_MMAP_THRESHOLD, _MAPPED))


def _mallopt(*settings: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return all(bool(mallopt(name, value)) for name, value in settings)

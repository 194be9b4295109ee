"""How many networks of a row are trained at once: a number of sizes alone, never of time or free memory.

docs/speed.md, "Time of an evaluation", has the measurements behind the constants.
"""

from __future__ import annotations

import copy
from typing import Literal

from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from ld3m_plugin.budgets import saved_bytes, weight_bytes
from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.randomness import lent_to_global, stream

#: How many networks of a row are trained at once: at most so many, or by their sizes.
Together = Literal["auto"] | int

#: Images of a batch up to which `auto` trains several networks at once on a CPU: larger ones leave its cache.
_FEW_IMAGES = 32

#: Memory of the networks that `auto` trains at once.
_BUDGET = 2**31


def check_together(together: Together) -> None:
    """Raise `InvalidOptionError` unless `together` is `auto` or a whole number of at least 1."""
    if together != "auto" and not (type(together) is int and together >= 1):
        raise InvalidOptionError(f"together = {together!r}: it must be 'auto' or a whole number of at least 1")


def group_sizes(most: int, repeats: int) -> list[int]:
    """Split `repeats` networks into groups of at most `most`, of nearly equal size.

    >>> group_sizes(4, 5), group_sizes(1, 2)
    ([3, 2], [1, 1])
    """
    groups = -(-repeats // most)
    return [repeats // groups + (index < repeats % groups) for index in range(groups)]


def fitting(network: Network, batch: Tensor, *, averaged: bool) -> int:
    """The most networks that `auto` trains at once; 1: one by one.

    Networks with convolutions are trained one by one: those of several networks become grouped ones, whose kernels are slower. So
    are, on a CPU, those whose batches have more than 32 images. Others share 2 GiB.

    Args:
        network: one of them, before its training.
        batch: images that it is trained on, (N, C, H, W), as many as in a batch.
        averaged: whether the training keeps an average of the weights.
    """
    if any(isinstance(part, _ConvNd) for part in network.modules()):
        return 1
    if batch.device.type == "cpu" and len(batch) > _FEW_IMAGES:
        return 1
    probe = copy.deepcopy(network).train()  # a pass may change buffers
    with lent_to_global(stream(0, "probe"), batch.device):
        activations = saved_bytes(lambda: probe(batch), [*probe.parameters(), *probe.buffers()])
    # Weights, among the others and alone, their gradient, momentum and average; activations and their gradients.
    bytes_each = (4 + averaged) * weight_bytes(network) + 2 * activations
    return max(1, _BUDGET // max(1, bytes_each))

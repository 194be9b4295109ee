"""Copies to a device and numbers from it, without waiting for the device at each.

A CUDA device works behind the host. The host waits for it whenever it reads a number (`float`, `bool`, `.cpu()`), takes rows by
a mask or by an index on the CPU, or copies to it from ordinary memory (`.to`, `torch.tensor(..., device=)`). A step does none
of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`; from the CPU to CUDA it goes through pinned memory, and the host does not wait for the copy.

    torch keeps the pinned copy until the device has read it. Elsewhere it is `tensor.to(device)`.
    """
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def number(value: object) -> float | Tensor:
    """A number as a float; one on a device stays there, without its graph, until `read_numbers`."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.device.type != "cpu":
            return value
    return float(value)  # type: ignore[arg-type]


def read_numbers(values: Sequence[float | Tensor]) -> list[float]:
    """Read numbers, each a float or a tensor of one element: those on a device in one copy.

    >>> read_numbers([1.5, torch.tensor([2.5])])
    [1.5, 2.5]
    """
    there = [value for value in values if isinstance(value, Tensor)]
    if not there:
        return [float(value) for value in values]
    # Exact for every dtype of a loss; MPS has no float64.
    device, dtype = there[0].device, torch.float32 if there[0].device.type == "mps" else torch.float64
    read = iter(torch.stack([value.detach().reshape(()).to(device, dtype) for value in there]).tolist())
    return [next(read) if isinstance(value, Tensor) else float(value) for value in values]

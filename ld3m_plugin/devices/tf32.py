"""TF32: float32 numbers of which CUDA's matrix units multiply the first 10 bits after the point, and add in float32.

A product is then off by about 1e-3 in place of 1e-7, and several times as fast (NVIDIA Ampere and later). Nothing here acts on
the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

#: Where TF32 is used: nowhere, in convolutions (torch's own default, and so the published codes'), or also in matrix products.
TF32 = Literal["none", "convolutions", "all"]


@contextmanager
def tf32(where: TF32, device: torch.device) -> Iterator[None]:
    """Compute on `device` with TF32 where it is wanted; afterwards the process's settings are what they were."""
    if device.type != "cuda":
        yield
        return
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32, products.allow_tf32 = where != "none", where == "all"
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before

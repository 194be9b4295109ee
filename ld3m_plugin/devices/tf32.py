"""TF32: float32 numbers of which CUDA's matrix units multiply the first 10 bits after the point, and add in float32.

A product is then off by about 1e-3 in place of 1e-7, and several times as fast (NVIDIA Ampere and later). Nothing here acts on
the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

#: Where TF32 is used: nowhere, in convolutions (torch's own default, and so the published codes'), or also in matrix products.
TF32 = Literal["none", "convolutions", "all"]


@contextmanager
def tf32(where: TF32, device: torch.device) -> Iterator[None]:
    """Compute on `device` with TF32 where it is wanted; afterwards the process's settings are what they were."""
    if device.type != "cuda":
        yield
        return
    convolutions, products, name, (off, on) = _switches()
    before = getattr(convolutions, name), getattr(products, name)
    _set(name, (convolutions, off if where == "none" else on), (products, on if where == "all" else off))
    try:
        yield
    finally:
        _set(name, (convolutions, before[0]), (products, before[1]))


def tf32_state() -> tuple[Any, Any]:
    """What is set for convolutions and products on CUDA now; equal values mean equal arithmetic."""
    convolutions, products, name, _ = _switches()
    return getattr(convolutions, name), getattr(products, name)


def _switches() -> tuple[Any, Any, str, tuple[Any, Any]]:
    """What holds the settings of convolutions and products, the name of the setting, and its values for off and on.

    torch has two names since 2.9. The older one is used as long as nobody has set the newer one, since other libraries read it
    inside of the context. After that, reading the older one may raise, and setting it may not switch TF32 off.
    """
    convolutions: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    older = convolutions, products, "allow_tf32", (False, True)
    if not hasattr(convolutions, "conv"):
        return older
    try:
        _ = convolutions.allow_tf32, products.allow_tf32
    except RuntimeError:
        is_mixed = True
    else:
        is_mixed = getattr(torch.backends, "fp32_precision", "none") != "none"
    return (convolutions.conv, products, "fp32_precision", ("ieee", "tf32")) if is_mixed else older


def _set(name: str, *values: tuple[Any, Any]) -> None:
    for holder, value in values:
        setattr(holder, name, value)

"""The learning-rate schedule of all trainings: linear warm-up, then half a cosine to zero."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: int, *, peak: float = 1.0, start: float | None = None) -> float:
    """Compute the learning rate of update or epoch `step` (from 0) of `steps`.

    The cosine is that of Loshchilov and Hutter, SGDR (ICLR 2017), equation 5, without restarts.

    Args:
        warmup: steps of the linear warm-up; the cosine takes the rest.
        peak: rate at step `warmup`.
        start: rate at step 0; default: `peak / warmup`, so that the last step of the warm-up already has the peak.

    >>> [round(warmup_cosine(step, 110, 10), 2) for step in (0, 4, 9, 10, 60, 109)]
    [0.1, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    # The order of the operations decides the last bit of trained networks: keep it.
    if step < warmup:
        return peak * (step + 1) / warmup if start is None else start + (peak - start) * step / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2

"""How much of the graph of LD3M's render is kept: the choice of `memory=auto`, from sizes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from ld3m_plugin.budgets import saved_bytes


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps of a part: `fixed`, such as copies of weights under autocast, and `per_row` of its rows."""

    fixed: int
    per_row: int

    def of(self, rows: int) -> int:
        """Bytes for `rows` rows."""
        return self.fixed + self.per_row * rows

    def most_rows(self, budget: float) -> int:
        """Rows whose bytes fit in `budget`; at least 1."""
        return max(1, int((budget - self.fixed) // max(self.per_row, 1)))


def measured(forward: Callable[[int], Tensor], weights: Iterable[Tensor]) -> Kept:
    """Measure what `forward` of a number of rows keeps, by one pass of one row and one of two.

    Args:
        weights: see `saved_bytes`.
    """
    there = list(weights)
    one, two = (saved_bytes(partial(forward, rows), there) for rows in (1, 2))
    return Kept(2 * one - two, two - one)


def choose(
    count: int, rows: int | None, steps: int, step: Kept, decoder: Kept, budget: float
) -> tuple[Literal["graph", "checkpoint"], int | None]:
    """Choose what is kept, and how many rows are rendered at a time (None: all).

    The whole graph is kept if it fits in `budget` bytes. Otherwise steps are recomputed, in chunks if one step of all rows does
    not fit. In chunks, recomputing takes the same two forward passes as a graph that is made again, and less memory.

    >>> step, decoder = Kept(0, 10), Kept(0, 30)
    >>> [choose(4, None, 5, step, decoder, budget) for budget in (320, 319, 119)]
    [('graph', None), ('checkpoint', None), ('checkpoint', 3)]

    Args:
        count: N, the rows of a render.
        rows: rows at a time that the user chose; None: not said.
        steps: denoising steps that are differentiated through the network.
        step: what one of them keeps.
        decoder: what the decoder keeps.
    """
    if (rows is None or rows >= count) and steps * step.of(count) + decoder.of(count) <= budget:
        return "graph", None
    fitting = min(part.most_rows(budget) for part in (step, decoder))
    return "checkpoint", fitting if rows is None and fitting < count else None

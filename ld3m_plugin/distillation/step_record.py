"""What one update is known by: its numbers, which may still be on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch import Tensor

from ld3m_plugin.devices.transfer import read_numbers

if TYPE_CHECKING:
    from ld3m_plugin.distillation.loop import Distillation


@dataclass(frozen=True)
class Step:
    """Record of one update.

    On the CPU all numbers are floats. On another device they are tensors of one element until `read_steps` reads those of
    several steps at once; `float(step.loss)` reads one, and waits for the device.

    Attributes:
        iteration: number of updates made so far, from 1.
        loss: the objective's value before the update.
        metrics: the objective's other numbers.
        seconds: time of this step; on another device than the CPU, the host's time, which waits for the device in some steps.
        state: the run, for images, latents and checkpoints.
        gradient_norms: Euclidean norm of the loss's gradient by learned latent, before the update.
    """

    iteration: int
    loss: float | Tensor
    metrics: Mapping[str, float | Tensor]
    seconds: float
    state: Distillation = field(repr=False, compare=False)
    gradient_norms: Mapping[str, float | Tensor] = field(default_factory=dict)


def read_steps(steps: Sequence[Step]) -> list[Step]:
    """The same steps with floats for numbers that are on the device, read in one copy; each took their mean time.

    Steps without such numbers are returned as they are.
    """
    waiting = [value for step in steps for value in _numbers(step) if _is_waiting(value)]
    if not waiting:
        return list(steps)
    read, seconds = iter(read_numbers(waiting)), sum(step.seconds for step in steps) / len(steps)

    def plain(value: float | Tensor) -> float | Tensor:
        return next(read) if _is_waiting(value) else value

    return [
        replace(
            step,
            loss=plain(step.loss),
            metrics={name: plain(value) for name, value in step.metrics.items()},
            gradient_norms={name: plain(value) for name, value in step.gradient_norms.items()},
            seconds=seconds,
        )
        for step in steps
    ]


def _numbers(step: Step) -> Iterator[float | Tensor]:
    yield step.loss
    yield from step.metrics.values()
    yield from step.gradient_norms.values()


def _is_waiting(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1

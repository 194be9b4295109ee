"""Conversion of one tensor of a checkpoint to one tensor of a diffusers module."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Form = Literal["same", "linear", "query", "key", "value"]
_THIRDS: dict[str, int] = {"query": 0, "key": 1, "value": 2}


@dataclass(frozen=True)
class Entry:
    """Source of one tensor of a module.

    Attributes:
        old: name in the checkpoint.
        new: name in the diffusers module.
        form: `same`; `linear` for a 1×1 convolution that diffusers computes as a linear layer; `query`, `key` or `value`
            for that third of a joint projection.
        heads: of the attention, for the thirds.
        by_head: the rows of a joint projection are (head, third, channel), as guided-diffusion first ordered them;
            otherwise (third, head, channel).
    """

    old: str
    new: str
    form: Form = "same"
    heads: int = 1
    by_head: bool = True

    def source_shape(self, target: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the checkpoint of a tensor that becomes one of shape `target`, without trailing 1s of a kernel."""
        return (3 * target[0], *target[1:]) if self.form in _THIRDS else target

    def fits(self, shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
        """Whether a tensor of shape `shape` can become one of shape `target`."""
        return (shape if self.form == "same" else _without_kernel(shape)) == self.source_shape(target)

    def take(self, tensor: Tensor, target: tuple[int, ...]) -> Tensor:
        """Convert the checkpoint's tensor, which `fits`, to the module's, of shape `target`."""
        if self.form not in _THIRDS:
            return tensor.reshape(target)
        third = _THIRDS[self.form]
        if self.by_head:
            return tensor.reshape(self.heads, 3, -1)[:, third].reshape(target)
        return tensor.reshape(3, -1)[third].reshape(target)


def _without_kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def layer(old: str, new: str, form: Form = "same", *, heads: int = 1, by_head: bool = True) -> Iterator[Entry]:
    """Entries of weight and bias of one layer."""
    for part in ("weight", "bias"):
        yield Entry(f"{old}.{part}", f"{new}.{part}", form, heads, by_head)


def layers(
    old: str, new: str, pairs: dict[str, str], form: Form = "same", among: Container[str] | None = None
) -> Iterator[Entry]:
    """Entries of weights and biases of the layers `pairs` (old name -> new name) of a block, of those `among` these names."""
    for old_layer, new_layer in pairs.items():
        if among is None or f"{new}.{new_layer}.weight" in among:
            yield from layer(f"{old}.{old_layer}", f"{new}.{new_layer}", form)

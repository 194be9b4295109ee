"""Conversion of one tensor of a checkpoint to one tensor of a diffusers module."""

from __future__ import annotations

from collections.abc import Mapping
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
        shape: in the diffusers module.
        form: `same`; `linear` for a 1×1 convolution that diffusers computes as a linear layer; `query`, `key` or `value`
            for that third of a joint projection, whose rows are (head, third, channel).
        heads: number of heads of these rows: those of the attention, as guided-diffusion first ordered them, or 1 for rows
            (third, head, channel).
    """

    old: str
    new: str
    shape: tuple[int, ...]
    form: Form = "same"
    heads: int = 1

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape in the checkpoint, without trailing 1s of a kernel."""
        return (3 * self.shape[0], *self.shape[1:]) if self.form in _THIRDS else self.shape

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the checkpoint's tensor may have this shape."""
        while self.form != "same" and len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        return shape == self.source_shape

    def take(self, tensor: Tensor) -> Tensor:
        """Convert the checkpoint's tensor, which `fits`, to the module's."""
        if self.form in _THIRDS:
            tensor = tensor.reshape(self.heads, 3, -1)[:, _THIRDS[self.form]]
        return tensor.reshape(self.shape)


def renamed(name: str, parts: Mapping[str, str]) -> str:
    """Replace parts of a name, in the order of `parts`.

    >>> renamed("encoder.mid_block.resnets.0.conv1", {"mid_block.resnets.0": "mid.block_1"})
    'encoder.mid.block_1.conv1'
    """
    for new, old in parts.items():
        name = name.replace(new, old)
    return name

"""`Latents`: the tensors that a generator renders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.errors import ArtefactError, one_line
from ld3m_plugin.storage import read_tensors, write_tensors


class Latents:
    """Named tensors that share their first dimension N, some learned and some fixed.

    A fixed tensor (a diffusion model's start noise) is stored with the others, so that a render can be repeated.
    Instances are immutable in structure; the host updates learned tensors in place through its optimiser.

    Args:
        tensors: name -> tensor (N, ...).
        learned: the names that the optimiser updates; the rest are fixed.

    Raises:
        ValueError: no tensor, unequal first dimensions, or a learned name that is not a floating-point tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor], learned: tuple[str, ...] | frozenset[str]) -> None:
        self._tensors = dict(tensors)
        self.learned = frozenset(learned)
        rows = {name: tensor.shape[0] if tensor.ndim else None for name, tensor in self._tensors.items()}
        if len(set(rows.values())) != 1 or None in rows.values():
            raise ValueError(f"latents must share their first dimension, got {rows}")
        for name in self.learned:
            if name not in self._tensors or not self._tensors[name].is_floating_point():
                raise ValueError(f"learned latent {name!r} is not a floating-point tensor of {sorted(self._tensors)}")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def get(self, name: str) -> Tensor | None:
        """The tensor of that name, or None."""
        return self._tensors.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        """N, the number of rows."""
        return next(iter(self._tensors.values())).shape[0]

    def __repr__(self) -> str:
        shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        return f"Latents({shapes}, learned={sorted(self.learned)})"

    def rows(self, which: slice) -> Latents:
        """The rows `which` of every tensor; gradients flow back to this object's tensors."""
        return Latents({name: tensor[which] for name, tensor in self._tensors.items()}, self.learned)

    def replace(self, **tensors: Tensor) -> Latents:
        """A copy with some tensors exchanged; the others are the same objects."""
        return Latents({**self._tensors, **tensors}, self.learned)

    def detach(self, *, requires_grad: bool = False) -> Latents:
        """Leaf copies that share storage; with `requires_grad`, the learned ones ask for gradients."""
        leaves = {
            name: tensor.detach().requires_grad_(requires_grad and name in self.learned)
            for name, tensor in self._tensors.items()
        }
        return Latents(leaves, self.learned)

    def clone(self) -> Latents:
        """Detached copies with storage of their own."""
        return Latents({name: tensor.detach().clone() for name, tensor in self._tensors.items()}, self.learned)

    def to(self, device: torch.device | str) -> Latents:
        """The same latents on `device`."""
        return Latents({name: tensor.to(device) for name, tensor in self._tensors.items()}, self.learned)

    def tensors(self) -> dict[str, Tensor]:
        """name -> tensor, in the order they were given."""
        return dict(self._tensors)

    def save(self, path: Path | str) -> None:
        """Write to a safetensors file; the names of the learned tensors are in its header."""
        write_tensors(Path(path), self._tensors, {"learned": ",".join(sorted(self.learned))})

    @classmethod
    def load(cls, path: Path | str) -> Latents:
        """Read what `save` wrote.

        Raises:
            ArtefactError: the file is missing or damaged, or its tensors and the names in its header do not fit.
        """
        tensors, metadata = read_tensors(Path(path), ArtefactError)
        try:
            return cls(tensors, tuple(filter(None, metadata.get("learned", "").split(","))))
        except ValueError as error:
            raise ArtefactError(f"{path} is damaged: {one_line(str(error))}") from error

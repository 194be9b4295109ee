"""CUDA graphs: passes of frozen networks that are recorded once, and replayed.

A small network is a few hundred kernels of microseconds, and the host takes ten times as long to launch them as the card to run
them. A graph is launched at once. Its memory is fixed, so a replay keeps no activations: the backward pass computes the forward
pass once more (Chen et al. 2016), and memory does not grow with the number of passes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.devices.tf32 import tf32_state
from ld3m_plugin.errors import UsageError, is_out_of_memory, one_line

Given = Sequence[Tensor | None]
_WARM_UP = 2  # libraries choose and load their kernels in the first pass, which cannot be recorded


def are_possible(device: torch.device) -> bool:
    """Whether passes can be recorded now: on a CUDA device, and not in mixed precision, whose copies of weights come and go."""
    return device.type == "cuda" and torch.cuda.is_available() and not torch.is_autocast_enabled("cuda")


class Replayed:
    """A function of tensors on a CUDA device, recorded for each size of its inputs and replayed. It is differentiated once.

    Args:
        function: deterministic; it waits for nothing, and every tensor that needs a gradient is among its inputs.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._recordings: dict[object, _Recording | None] = {}

    @property
    def has_failed(self) -> bool:
        """Whether a recording was tried in vain: passes of its sizes keep their activations."""
        return None in self._recordings.values()

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        asked = tuple(torch.is_grad_enabled() and given is not None and given.requires_grad for given in inputs)
        recording = self._recording(inputs, asked)
        if recording is None:
            return self._function(*inputs)
        output: Tensor = _Replay.apply(recording, asked, *inputs)
        return output

    def _recording(self, inputs: Given, asked: tuple[bool, ...]) -> _Recording | None:
        """The recording for such inputs; None where the function cannot be recorded."""
        sizes = tuple(None if given is None else (given.shape, given.dtype) for given in inputs)
        form = (sizes, tf32_state())
        try:
            if form not in self._recordings:
                self._recordings[form] = _Recording(self._function, inputs)
            recording = self._recordings[form]
            if recording is not None and any(asked):
                recording.record_backward(asked)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            warnings.warn(f"no CUDA graph ({one_line(str(error))}): kernels are launched one by one", stacklevel=2)
            recording = self._recordings[form] = None
        return recording


class _Recording:
    """A function recorded for one size: where its inputs and outputs lie, and how they are computed anew."""

    def __init__(self, function: Callable[..., Tensor], inputs: Given) -> None:
        self._function = function
        self._inputs = [None if given is None else given.detach().clone() for given in inputs]
        self._output: Tensor
        with torch.no_grad():
            self._output, self._replay = record(lambda: function(*self._inputs), self._device)
        self._backward: dict[tuple[bool, ...], tuple[Tensor, tuple[Tensor, ...], Callable[[], None]]] = {}

    def forward(self, inputs: Given) -> Tensor:
        self._fill(inputs)
        self._replay()
        return self._output.clone()

    def backward(self, inputs: Given, gradient: Tensor, asked: tuple[bool, ...]) -> list[Tensor | None]:
        """The gradients of the inputs that are asked for."""
        slot, found, replay = self._backward[asked]
        self._fill(inputs)
        slot.copy_(gradient)
        replay()
        made = iter(found)
        return [next(made).clone() if wanted else None for wanted in asked]

    def record_backward(self, asked: tuple[bool, ...]) -> None:
        if asked in self._backward:
            return
        slot = torch.zeros_like(self._output)

        def work() -> tuple[Tensor, ...]:
            leaves = [
                None if given is None else given.detach().requires_grad_(wanted)
                for given, wanted in zip(self._inputs, asked, strict=True)
            ]
            wanted = [leaf for leaf in leaves if leaf is not None and leaf.requires_grad]
            return torch.autograd.grad(self._function(*leaves), wanted, slot)

        with torch.enable_grad():
            self._backward[asked] = (slot, *record(work, self._device))

    @property
    def _device(self) -> torch.device:
        return next(given.device for given in self._inputs if given is not None)

    def _fill(self, inputs: Given) -> None:
        for slot, given in zip(self._inputs, inputs, strict=True):
            if slot is not None and given is not None:
                slot.copy_(given)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, recording: _Recording, asked: tuple[bool, ...], *inputs: Tensor | None) -> Tensor:
        ctx.recording, ctx.asked = recording, asked
        ctx.save_for_backward(*inputs)
        return recording.forward(inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UsageError(
                "a CUDA graph is differentiated once: leave out create_graph=True, or use cuda_graphs=none"
            )
        return None, None, *ctx.recording.backward(ctx.saved_tensors, gradient, ctx.asked)


def record(work: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], None]]:
    """Record `work` on a device; returns its result, and what computes the same tensors of the result anew."""
    with torch.cuda.device(device):  # on a stream of another device, nothing would be recorded
        aside, graph = _stream(device), torch.cuda.CUDAGraph()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph, stream=aside):
            result = work()
    return result, graph.replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: libraries keep working memory for each stream that they see."""
    return torch.cuda.Stream(device)

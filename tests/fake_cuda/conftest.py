"""A stand-in for a CUDA device, with numbers: tensors that say `cuda:0`, compute on the CPU, refuse tensors of the CPU, and tell
who waits for them.

`FakeTensorMode` has the same rule for devices, but no numbers and, in CUDA builds of torch without a driver, no backward pass;
`test_card.py` compares the two rules. What no stand-in shows: speed, memory, kernels that a device lacks, its bits, its streams.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from ld3m_plugin.networks import fast_layers
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.objectives.dm import DM
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.objectives.mtt.mtt_objective import MTT
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.testing import tiny_task

CARD = torch.device("cuda", 0)
aten = torch.ops.aten

#: Operations whose result the host needs, or whose result's shape depends on values: the host waits for the card.
_WAIT = {
    *(aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave),
}
_INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
_COPIES = {aten._to_copy, aten.copy_}


class WaitError(AssertionError):
    """The host waits for the card, or copies to it while it waits."""


class OnCard(torch.Tensor):
    """A tensor on the stand-in. `held` has its numbers, on the CPU."""

    @staticmethod
    def __new__(cls, held):
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, **shape, layout=held.layout, device="cpu")

    def __init__(self, held):
        self.held = held

    device = property(lambda self: CARD)
    is_cuda, is_cpu = True, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    def untyped_storage(self):
        return self.held.untyped_storage()

    def __repr__(self):
        return f"OnCard({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on the stand-in, which is not there any more")


def on_card(value):
    """Whether a tensor or a device is the card's."""
    if isinstance(value, torch.Tensor):
        while torch._C._functorch.is_functorch_wrapped_tensor(value):
            value = torch._C._functorch.get_unwrapped(value)
        return isinstance(value, OnCard)
    return isinstance(value, str | torch.device) and str(value).partition(":")[0] == "cuda"


def _held(value):
    return value.held if isinstance(value, OnCard) else value


def _wrapped(value):
    return OnCard(value) if isinstance(value, torch.Tensor) else value


class _Kernels(TorchDispatchMode):
    """Runs each operation on the numbers, after the rules of devices."""

    def __init__(self, card):
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        asked = kwargs.get("device")
        if func.overloadpacket is aten._pin_memory:  # there is no driver to pin anything
            return args[0].clone()
        # Inside a function of torch, C++ makes numbers, and moves them, to where its tensors are: the CPU, as it believes.
        if self.card.called and (not tensors or func.overloadpacket is aten._to_copy):
            asked = CARD
        if not any(map(on_card, tensors)) and not on_card(asked):
            return func(*args, **kwargs)
        to_card = on_card(asked) if asked is not None else on_card(tensors[0])
        self._check(func, args, kwargs, tensors, to_card)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if func.overloadpacket in _COPIES and not to_card:
            return args[0] if func.overloadpacket is aten.copy_ else found
        if not isinstance(found, torch.Tensor | list | tuple):
            return found
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_wrapped, found))

    def _check(self, func, args, kwargs, tensors, to_card):
        packet, devices = func.overloadpacket, {on_card(tensor) for tensor in tensors if tensor.ndim}
        if packet in _COPIES:
            source = args[1] if packet is aten.copy_ else args[0]
            is_blocking = not (kwargs.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2]))
            if on_card(source) and not to_card:
                self.card.waits(f"{func} to the CPU")
            elif to_card and not on_card(source) and is_blocking:
                self.card.waits(f"{func} of {tuple(source.shape)} to the card, blocking")
        elif packet in _INDEXED:
            for index in filter(lambda index: index is not None, args[1]):
                if index.dtype in (torch.bool, torch.uint8):
                    self.card.waits(f"{func} with a mask")
                if not on_card(index):
                    self.card.waits(f"{func} with an index on the CPU")
        elif len(devices) > 1:
            raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found cuda:0 and cpu")
        if packet in _WAIT:
            self.card.waits(str(func))


class _Calls(TorchFunctionMode):
    """What C++ decides by the device, before any operation: the stand-in's tensors are the CPU's to it."""

    def __init__(self, card):
        super().__init__()
        self.card = card

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return self._to(*args, **kwargs)
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            return self._to(args[0], "cpu" if func is torch.Tensor.cpu else CARD, *args[1:], **kwargs)
        if func is torch.Tensor.tolist and on_card(args[0]):
            return self._to(args[0], "cpu").tolist()
        if func is torch.Tensor.pin_memory:
            return args[0].clone()
        if func is torch.Tensor.new_tensor and on_card(args[0]):
            return self._new(torch.tensor, args[1:], {"dtype": args[0].dtype, **kwargs})
        if on_card(kwargs.get("device")):
            return self._new(func, args, kwargs)
        before, self.card.called = self.card.called, any(map(on_card, tree_leaves((args, kwargs))))
        try:
            return func(*args, **kwargs)
        finally:
            self.card.called = before

    def _to(self, tensor, *args, **kwargs):
        if args and isinstance(args[0], torch.Tensor):
            args, kwargs = (args[0].device, args[0].dtype, *args[1:]), kwargs
        copy = kwargs.pop("copy", False)
        device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        wanted = device or (CARD if on_card(tensor) else tensor.device)
        if not copy and on_card(wanted) == on_card(tensor) and dtype in (None, tensor.dtype) and layout is None:
            return tensor
        layout = torch.preserve_format if layout is None else layout
        options = {"dtype": dtype or tensor.dtype, "device": wanted, "non_blocking": non_blocking}
        return aten._to_copy.default(tensor, **options, memory_format=layout)

    def _new(self, func, args, kwargs):
        wants_gradient = kwargs.pop("requires_grad", False)
        if func in (torch.tensor, torch.as_tensor):
            self.card.waits(f"{func.__name__}(..., device=cuda)")
        made = func(*args, **{**kwargs, "device": "cpu"})
        return OnCard(made.detach()).requires_grad_(wants_gradient)


class Card:
    """The stand-in. Operations that make the host wait are in `waited`; inside `busy`, they are errors."""

    def __init__(self):
        self.waited: list[str] = []
        self._busy = self.called = False  # called: the function that runs was given tensors of the card

    def waits(self, what):
        place = [f for f in traceback.extract_stack() if "/tests/" not in f.filename and "/torch/" not in f.filename][
            -1
        ]
        what = f"{what} at {place.filename}:{place.lineno}: {place.line}"
        if self._busy:
            raise WaitError(what)
        self.waited.append(what)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Nothing may wait for the card inside."""
        self._busy, before = True, self._busy
        try:
            yield
        finally:
            self._busy = before


@pytest.fixture
def card(monkeypatch):
    """A machine with one card."""
    made = Card()
    state = torch.Generator()
    stream = SimpleNamespace(manual_seed=state.manual_seed)
    for name, value in {
        "_lazy_init": lambda: None,
        "current_device": lambda: 0,
        "default_generators": (stream,),
        "get_rng_state": lambda device=None: state.get_state(),
        "get_device_name": lambda device=None: "stand-in",
        "set_rng_state": lambda new, device=None: state.set_state(new),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    # Under vmap the stand-in's tensors say that they are the CPU's, and these layers are for that one.
    monkeypatch.setattr(fast_layers, "_suits", lambda maps: False)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with ExitStack() as stack:
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(_Kernels(made))
        stack.enter_context(_Calls(made))
        yield made


SMALL = {"network_settings": {"depth": 2, "width": 8}}
MATCHING = {**SMALL, "batch_real": 6}
#: By name, options with which an objective's second step also goes on with the network of the first.
OBJECTIVES = {
    "breaks": MATCHING,
    "dm": MATCHING,
    "dc": {**MATCHING, "outer_loop": 2, "inner_loop": 2, "batch_train": 2},
    "dc one by one": {**MATCHING, "classes_at_once": 1},
    "mtt": {**SMALL, "syn_steps": 2, "expert_epochs": 1, "max_start_epoch": 1, "batch_syn": 2},
}
GENERATORS = {
    "autoencoder": {},
    "ld3m": {"steps": 2, "guidance_scale": 3.0, "noise": "redrawn"},
    "ld3m in parts": {"steps": 2, "memory": "checkpoint", "eta": 1.0},
    "glad": {},
    "pixel": {},
}


class Breaks(DM):
    """Not finite at its fourth step."""

    def loss(self, images, labels, step):
        return super().loss(images, labels, step) * (float("nan") if step == 3 else 1)


@cache
def trajectories():
    networks = [network_for(tiny_task(), "ConvNet", SMALL["network_settings"], stream(0, epoch)) for epoch in range(2)]
    return MemoryExperts([{epoch: flat(network) for epoch, network in enumerate(networks)}])


@pytest.fixture
def registry():
    registry = build_registry()

    class Given(MTT):
        experts = trajectories()

    for name, factory in {"given": Given, "breaks": Breaks}.items():
        registry.add(Backend("objective", name, factory, "", Owner("tests", "tests", "0")))
    return registry


@pytest.fixture
def config():
    """Makes the settings of a pair; a name ends where its variant begins."""

    def make(generator="pixel", objective="dm", **settings):
        name = {"mtt": "given"}.get(objective, objective.partition(" ")[0])
        return {
            "generator": {"name": generator.partition(" ")[0], "options": GENERATORS[generator]},
            "objective": {"name": name, "options": OBJECTIVES[objective]},
            **settings,
        }

    return make

"""Tensors in a pickle: a file in the file for each storage, looked through at once and read when its tensor is needed."""

from __future__ import annotations

import io
import pickletools
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ld3m_plugin.generators.glad.pickles.records import DamagedError, RefusedError, short

_MOST_DIMENSIONS = 8
_MOST_OPCODES = 1000
_PICKLES = 5  # magic number, version, facts about the machine, the storage, its key
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
#: Containers, texts and numbers: enough to name a storage. Nothing here calls, makes an instance or fills one in.
_CONTAINERS = {"APPEND", "APPENDS", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "SETITEM", "SETITEMS"}
_TUPLES = {"MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_VALUES = {"BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1", "NEWFALSE", "NEWTRUE", "NONE", "SHORT_BINUNICODE"}
_MEMO = {"BINGET", "BINPUT", "LONG_BINGET", "LONG_BINPUT", "MEMOIZE"}
_OPCODES = frozenset(_CONTAINERS | _TUPLES | _VALUES | _MEMO | {"BINPERSID", "GLOBAL", "PROTO", "STOP"})
_CLASSES = frozenset(
    f"torch {kind}Storage"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
)


@dataclass(eq=False)
class StoredNumbers:
    """A storage as `torch.save` writes it inside a pickle."""

    data: bytes = field(repr=False)

    @cached_property
    def numbers(self) -> Tensor:
        """All of it, in one dimension, on the CPU.

        Raises:
            Exception: of nearly any type, if the bytes are damaged.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # storages with a type are on their way out of torch
            stored = torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=True)
            if not isinstance(stored, torch.TypedStorage):
                raise DamagedError(f"a {type(stored).__name__} in the place of a storage")
            return torch.empty(0, dtype=stored.dtype).set_(stored.untyped())


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read yet: a view of a storage."""

    storage: StoredNumbers
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """Its values on the CPU.

        Raises:
            Exception: of nearly any type, if the bytes are damaged.
        """
        numbers = self.storage.numbers
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        count = torch.Size(self.shape).numel()
        # A view that repeats its numbers could be as large as it says, out of a file of a few bytes.
        if count > numbers.numel() or (count and last >= numbers.numel()):
            raise DamagedError(f"its storage holds {numbers.numel()} numbers, which its shape {self.shape} exceeds")
        return numbers.as_strided(self.shape, self.stride, self.offset)


def load_storage(data: object) -> StoredNumbers:
    """A storage, looked through and not yet read.

    Raises:
        RefusedError, DamagedError, ValueError: the bytes are anything but one storage.
    """
    if not isinstance(data, bytes):
        raise DamagedError("a storage without bytes")
    if data.startswith(b"PK"):  # torch.save's other format; the parts of an archive could unpack to any size
        raise RefusedError("holds a storage in an archive, which no network file does")
    stream, count = io.BytesIO(data), 0
    for _ in range(_PICKLES):
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            _check_opcode(opcode.name, argument, len(data))
            if count > _MOST_OPCODES:
                raise RefusedError("holds a storage that describes itself at length")
    return StoredNumbers(data)


def _check_opcode(name: str, argument: Any, size: int) -> None:
    if name == "GLOBAL" and argument not in _CLASSES:
        raise RefusedError(f"asks for {short(argument).replace(' ', '.')} inside a storage")
    if name not in _OPCODES:
        raise RefusedError(f"holds a storage with the instruction {name}")
    # torch sets aside as much memory as a storage says it has numbers, before it reads them.
    if isinstance(argument, int) and argument > size and argument not in (_MAGIC_NUMBER, 1001):
        raise RefusedError("holds a storage that claims more numbers than it has bytes")


def rebuild_tensor(storage: object, offset: object, shape: object, stride: object, *_rest: object) -> StoredTensor:
    """A view of a storage; what follows (gradients, hooks, attributes) is left out."""
    if not isinstance(storage, StoredNumbers):
        raise DamagedError("a tensor without a storage")
    start = (offset,)
    if not _is_sizes(shape) or not _is_sizes(stride) or not _is_sizes(start) or len(shape) != len(stride):
        raise DamagedError("a tensor without a shape")
    return StoredTensor(storage, start[0], shape, stride)


def rebuild_parameter(tensor: object, *_rest: object) -> StoredTensor:
    """The tensor of a parameter."""
    if not isinstance(tensor, StoredTensor):
        raise DamagedError("a parameter without a tensor")
    return tensor


def _is_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**40 for n in value)
    )

"""Numbers and tensors, read from the records that stand for numpy's and torch's objects when they are asked for."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from ld3m_plugin.generators.glad.pickles.limits import REFUSED, DamagedError, RefusedError, checked_opcodes
from ld3m_plugin.generators.glad.pickles.stand_ins import Record

#: Of sizes, channels, rates and classes: far above any network's, far below what overflows.
_LARGEST = 2**20
_DTYPES = re.compile(r"[<>|=]([iu][1248]|f[248])")
_MOST_DIMENSIONS = 8
_STORAGE = "torch.storage._load_from_bytes"
_STORAGE_CLASSES = re.compile(r"torch (BFloat16|Bool|Byte|Char|Double|Float|Half|Int|Long|Short)Storage")
_STORAGE_PICKLES, _STORAGE_OPCODES = 5, 1000  # magic number, version, facts about the machine, the storage, its key
#: Besides calls, what repeats a value: torch prints what it does not know, and tuples of the same tuples have no end.
_STORAGE_REFUSED = (REFUSED - {"BINPERSID"}) | {
    *("REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "STACK_GLOBAL", "DUP", "GET", "BINGET", "LONG_BINGET")
}
_MAGIC_NUMBERS = (0x1950A86A20F9469CFC6C, 1001)


def number_of(value: Any) -> float | None:
    """Return a finite number of at most 2^20, which may be numpy's or the same one twice (the sides of a square), or None."""
    if isinstance(value, Record):
        try:
            value, *others = _numpy_numbers(value)
        except (AttributeError, IndexError, TypeError, ValueError):
            return None
        if others not in ([], [value]):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        return None
    return int(value) if value == int(value) else value


def _numpy_numbers(record: Record) -> list[Any]:
    """Return the numbers of a numpy array or scalar as Python's, without its shape."""
    match record.class_name.rpartition(".")[2]:
        case "scalar":
            dtype, data = record.arguments
        case "_frombuffer":
            data, dtype, *_ = record.arguments
        case _:
            _, _, dtype, _, data = record.state
    order, code = dtype.state[1] if dtype.state else "=", dtype.arguments[0]
    if not isinstance(order + code, str) or not _DTYPES.fullmatch(order + code) or len(data) > 16:
        raise ValueError("not one or two plain numbers")
    numbers: list[Any] = numpy.frombuffer(data, order + code).tolist()
    return numbers


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read yet: a view of a storage, which `torch.save` wrote inside the pickle."""

    storage: bytes | bytearray
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, record: Any) -> StoredTensor:
        """Take what `torch._utils` rebuilds a tensor or a parameter from; gradients, hooks and attributes are left out.

        Raises:
            Exception: of nearly any type, if the record is of something else.
        """
        for _ in range(2):  # a parameter of a tensor with attributes
            if record.class_name.startswith("torch._utils._rebuild_parameter"):
                record = record.arguments[0]
            if record.class_name == "torch._tensor._rebuild_from_type_v2":
                record = Record(record.arguments[0].path, arguments=record.arguments[2])
        storage, offset, shape, stride = record.arguments[:4]
        (data,) = storage.arguments if storage.class_name == _STORAGE else (None,)
        if not record.class_name.startswith("torch._utils._rebuild_tensor") or not isinstance(data, bytes | bytearray):
            raise DamagedError("it has no storage")
        for numbers in ((offset,), shape, stride):
            if not isinstance(numbers, tuple) or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
                raise DamagedError("it has no shape")
        if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
            raise DamagedError("it has no shape")
        return cls(data, offset, shape, stride)

    def view(self, numbers: Tensor) -> Tensor:
        """Take its values out of those of the storage.

        Raises:
            DamagedError: the storage has fewer.
        """
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        count = math.prod(self.shape)
        # A view that repeats its numbers could be as large as it says, out of a file of a few bytes.
        if count > numbers.numel() or (count and last >= numbers.numel()):
            raise DamagedError(f"its storage holds {numbers.numel()} numbers, which its shape {self.shape} exceeds")
        return numbers.as_strided(self.shape, self.stride, self.offset)


def read_storage(data: bytes | bytearray) -> Tensor:
    """Read all numbers of a storage, in one dimension, on the CPU.

    Raises:
        Exception: of nearly any type, if the bytes are anything but one storage.
    """
    _check_storage(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # storages with a type are on their way out of torch
        stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(stored, torch.TypedStorage):
            raise DamagedError(f"a {type(stored).__name__} in the place of a storage")
        return torch.empty(0, dtype=stored.dtype).set_(stored.untyped())


def _check_storage(data: bytes | bytearray) -> None:
    """Refuse all that is not one storage, or claims more numbers than it has bytes."""
    if data.startswith(b"PK"):  # torch.save's other format; the parts of an archive could unpack to any size
        raise RefusedError("is in an archive, as in no network file")
    stream = io.BytesIO(data)
    for _ in range(_STORAGE_PICKLES):
        for name, argument in checked_opcodes(stream, _STORAGE_OPCODES, _STORAGE_REFUSED):
            if name == "GLOBAL" and not _STORAGE_CLASSES.fullmatch(argument):
                raise RefusedError(f"asks for {argument.replace(' ', '.')}")
            # torch reserves as much memory as a storage says it has numbers, before it reads them.
            if isinstance(argument, int) and argument > len(data) and argument not in _MAGIC_NUMBERS:
                raise RefusedError("claims more numbers than it has bytes")

"""Numbers and tensors, read from the records that stand for numpy's and torch's objects when they are asked for."""

from __future__ import annotations

import io
import math
import re
import struct
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
_STORAGE_CLASSES = re.compile(r"torch (BFloat16|Bool|Double|Float|Half|Int|Long|Short)Storage")
#: Pickles of a storage, the fourth of which is `('storage', torch.FloatStorage, key, device, number of elements, None)`.
_STORAGE_PICKLES, _STORAGE_OPCODES = 5, 1000
#: Arguments in the first two: torch's magic number and version of the format, each after pickle's protocol.
_STORAGE_START = [2, 0x1950A86A20F9469CFC6C, None, 2, 1001, None]
_STORAGE_PICKLE = "PROTO MARK BINUNICODE GLOBAL BINUNICODE BINUNICODE (BININT[12]?|LONG1) NONE TUPLE BINPERSID STOP"
_STORAGE_REFUSED = (REFUSED - {"BINPERSID"}) | {"REDUCE"}


def number_of(value: Any) -> float | None:
    """Return a finite number of at most 2^20, which may be numpy's or the same one twice (the sides of a square), or None."""
    if isinstance(value, Record):
        try:
            value, *others = _numpy_numbers(value)
        except (AttributeError, LookupError, TypeError, ValueError):
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
        if not len(shape) == len(stride) <= _MOST_DIMENSIONS:
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
    """Read all numbers of a storage, in one dimension, on the CPU. Its pickles are looked at and not loaded.

    Raises:
        RefusedError: the bytes are something else, or claim another number of elements than they have.
        Exception: of nearly any type, if they are damaged.
    """
    if data.startswith(b"PK"):  # torch.save's other format; the parts of an archive could unpack to any size
        raise RefusedError("is in an archive, as in no network file")
    stream, pickles = io.BytesIO(data), []
    for _ in range(_STORAGE_PICKLES):
        opcodes = checked_opcodes(stream, _STORAGE_OPCODES, _STORAGE_REFUSED)
        pickles.append([(name, argument) for name, argument in opcodes if name != "BINPUT"])
    is_storage = re.fullmatch(_STORAGE_PICKLE, " ".join(name for name, _ in pickles[3]))
    if not is_storage or [argument for _, argument in pickles[0] + pickles[1]] != _STORAGE_START:
        raise RefusedError("is something else than a storage")
    _, _, _, kind, _, _, claimed, *_ = (argument for _, argument in pickles[3])
    if not (found := _STORAGE_CLASSES.fullmatch(kind)):
        raise RefusedError(f"asks for {kind.replace(' ', '.')}")
    dtype: torch.dtype = getattr(torch, found[1].lower())
    numbers = bytearray(data[stream.tell() + 8 :])
    (count,) = struct.unpack_from("<q", data, stream.tell())
    if not count * dtype.itemsize == claimed * dtype.itemsize == len(numbers):
        raise RefusedError("claims another number of elements than it has")
    return torch.frombuffer(numbers, dtype=dtype)

"""numpy's numbers in a pickle: real numbers of fixed size, nothing that holds objects or has fields."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy

from ld3m_plugin.generators.glad.pickles.records import DamagedError, Name, RefusedError, short

_KINDS = re.compile(r"b1|[iu][1248]|f[248]")
_ORDERS = ("<", ">", "|", "=")
_MOST_DIMENSIONS = 8


class Dtype:
    """The kind of a number. The file gives the byte order afterwards."""

    def __init__(self, code: object, _align: object = False, _copy: object = True) -> None:
        if not isinstance(code, str) or not _KINDS.fullmatch(code):
            raise RefusedError(f"holds numpy values of kind {short(code)}, which are not plain numbers")
        self._code = code
        self._order = "="

    def set_state(self, state: Any) -> None:
        """(version, byte order, subtype, names, fields, size, alignment, flags, ...): only the order says anything here."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in _ORDERS:
            raise DamagedError("a numpy dtype has no byte order")
        if state[2:5] != (None, None, None):
            raise RefusedError("holds numpy values with fields, which are not plain numbers")
        self._order = state[1]

    @property
    def kind(self) -> numpy.dtype[Any]:
        return numpy.dtype(self._order + self._code)


class NumberArray:
    """A numpy array; `values` once the file has given them."""

    def __init__(self) -> None:
        self.values: Any = numpy.zeros(0)

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, whether columns come first, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise DamagedError("a numpy array without shape and bytes")
        _, shape, dtype, fortran, data = state
        self.values = _values(data, dtype, shape, "F" if fortran is True else "C")


def scalar(dtype: object, data: object = None) -> Any:
    """A numpy number as one of Python's."""
    return _values(data, dtype, (), "C").item()


def reconstruct(subtype: object, _shape: object = None, _typecode: object = None) -> NumberArray:
    """An array that is filled in afterwards."""
    if not isinstance(subtype, Name) or subtype.path != "numpy.ndarray":
        raise RefusedError("holds a subclass of numpy.ndarray")
    return NumberArray()


def from_buffer(data: object, dtype: object, shape: object, order: object = "C") -> NumberArray:
    """An array as protocol 5 has it."""
    array = NumberArray()
    array.values = _values(data, dtype, shape, "F" if order == "F" else "C")
    return array


def _values(data: object, dtype: object, shape: object, order: Any) -> Any:
    if not isinstance(data, bytes) or not isinstance(dtype, Dtype):
        raise DamagedError("numpy values without bytes or kind")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise DamagedError("a numpy array without a shape")
    if math.prod(shape) * dtype.kind.itemsize != len(data):
        raise DamagedError("numpy values whose bytes do not fill their shape")
    # A view of the bytes: however often a file repeats them, they take their memory once.
    return numpy.frombuffer(data, dtype.kind).reshape(shape, order=order)

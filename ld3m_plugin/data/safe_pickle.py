"""Reading pickles without running what a pickle may ask for: those in which CIFAR is distributed, and others by `unpickle`.

A pickle is a program: it can name any importable callable and call it. Here names are looked up in a table of the four
that an array of numbers needs; any other name is an error, before anything is imported.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy

from ld3m_plugin.errors import DataError


def load_arrays(data: bytes, path: Path) -> Any:
    """Containers, numbers, strings and numpy arrays in a pickle; strings of Python 2 are read as Latin-1.

    Args:
        data: the pickle.
        path: its file, for error messages.

    Raises:
        DataError: the pickle names anything else, or is damaged.
    """

    def allowed(module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"{path} asks for {module_name}.{global_name}, which an array of images does not need: not read. "
                "Get the file again from a source you trust"
            ) from None

    try:
        return _ArrayUnpickler(io.BytesIO(data), allowed).load()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}; get it again") from error


def unpickle(file: IO[bytes] | mmap, find_class: Callable[[str, str], Any]) -> Any:
    """Build what the pickle at the file's position describes; Python 2 texts are read as Latin-1.

    Args:
        find_class: returns what the pickle gets for a module and a name, and may call with any arguments, or raises. Without
            `__setstate__`, the pickle can set its attributes as well.

    Raises:
        Exception: of nearly any type, if the pickle is damaged.
    """
    return _Unpickler(file, find_class).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes] | mmap, find_class: Callable[[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._find_class = find_class

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return self._find_class(module_name, global_name)


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler in Python: that in C reserves memory up to the largest number of an object, which a few bytes can state.

    The instruction of protocol 5 for byte arrays is left out: it reserves what the file says before it reads.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: act for code, act in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, file: IO[bytes], find_class: Callable[[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._find_class = find_class

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return self._find_class(module_name, global_name)


def _empty_array(_subtype: object, shape: object, _code: object) -> Any:
    """Stand in for numpy's `_reconstruct`, which picklers call for an empty array; a large one would take memory here."""
    if shape != (0,):
        raise pickle.UnpicklingError("an array is made of another shape than (0,)")
    return _RECONSTRUCT(numpy.ndarray, (0,), b"b")


def _latin1(text: object, encoding: object = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, which old protocols use for bytes; other codecs could decompress data."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("only Latin-1 text may be encoded")
    return text.encode("latin1")


# Taken from an array, not imported: its module's name differs between numpy 1 and 2, and the old name warns in 2.
_RECONSTRUCT: Any = numpy.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): "numpy.ndarray",  # an argument alone: called, it makes an array of any size
    ("numpy", "dtype"): numpy.dtype,
    ("_codecs", "encode"): _latin1,
}

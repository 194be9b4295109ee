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
from typing import IO, Any

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
        return _FrugalUnpickler(io.BytesIO(data), allowed).load()
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} asks for more memory than there is: get it again") from error
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


class _FrugalUnpickler(pickle._Unpickler):
    """Python's unpickler in Python, which keeps places in a dictionary.

    The one in C makes a table as long as the largest place says: eleven bytes can ask for 64 GB.
    """

    def __init__(self, file: IO[bytes], find_class: Callable[[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._find_class = find_class

    def find_class(self, module: str, name: str) -> Any:
        return self._find_class(module, name)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes] | mmap, find_class: Callable[[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._find_class = find_class

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return self._find_class(module_name, global_name)


def _empty_array(*_: object) -> numpy.ndarray:
    """Stand in for numpy's `_reconstruct`, which would fill an array of any length; pickles set shape and content later."""
    return numpy.empty(0, dtype=numpy.uint8)


def _latin1(text: object, encoding: object = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, which old protocols use for bytes; other codecs could decompress data."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("only Latin-1 text may be encoded")
    return text.encode("latin1")


# The module's name differs between numpy 1 and 2. What names the class gets a text: calling it is an error.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): numpy.dtype,
    ("_codecs", "encode"): _latin1,
}

"""Read the pickles of CIFAR without running code in them.

A pickle is a program: it can name any importable callable and call it. Here names are looked up in a table of the four
that an array of numbers needs; any other name is an error, before anything is imported.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

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
    try:
        return _ArrayUnpickler(io.BytesIO(data), path).load()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}; get it again") from error


def _latin1(text: object, encoding: object = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, which old protocols use for bytes; other codecs could decompress data."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("only Latin-1 text may be encoded")
    return text.encode("latin1")


# Taken from an array, not imported: its module's name differs between numpy 1 and 2, and the old name warns in 2.
_RECONSTRUCT = numpy.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): numpy.ndarray,
    ("numpy", "dtype"): numpy.dtype,
    ("_codecs", "encode"): _latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"{self._path} asks for {module_name}.{global_name}, which an array of images does not need: "
                "nothing in it was run. Get the file from a source you trust"
            ) from None

"""The IDX format of MNIST and its relatives, plain or gzip-compressed.

Big-endian header: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as 32 bits;
then the values (http://yann.lecun.com/exdb/mnist/). The file's length must be exactly what its header says: a download
that stopped early is an error, never a smaller data set.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy
import torch
from torch import Tensor

from ld3m_plugin.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The uint8 tensor of an IDX file with that many dimensions; gzip is recognised by the ending `.gz`.

    Raises:
        DataError: the file is missing, not IDX, of another type or rank, truncated, or longer than it says.
    """
    try:
        with _open(path) as file:
            shape = _read_shape(path, file, dimensions)
            size = math.prod(shape)
            data = _read_at_most(file, size + 1)  # one byte more shows a file that is too long
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read IDX file {path}: {error}; get it again") from error
    if len(data) != size:
        found = "more" if len(data) > size else f"only {len(data)}"
        raise DataError(f"IDX file {path} should hold {size} bytes of data and holds {found}: get it again")
    if size == 0:
        raise DataError(f"IDX file {path} holds nothing: its dimensions are {shape}")
    return torch.from_numpy(numpy.frombuffer(data, numpy.uint8)).view(shape)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read_at_most(file: BinaryIO, limit: int) -> bytearray:
    """In pieces: one `read` of what a false header promises would ask for that much memory at once."""
    data = bytearray()
    while len(data) < limit and (piece := file.read(min(2**24, limit - len(data)))):
        data += piece
    return data


def _read_shape(path: Path, file: BinaryIO, dimensions: int) -> tuple[int, ...]:
    magic = file.read(4)
    if magic != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions "
            f"(it begins with {magic.hex(' ') or 'nothing'})"
        )
    header = file.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise DataError(f"IDX file {path} ends inside its header: get it again")
    return struct.unpack(f">{dimensions}I", header)

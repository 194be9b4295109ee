"""The IDX format of MNIST and its relatives, plain or gzip-compressed (http://yann.lecun.com/exdb/mnist/).

A big-endian header (two zero bytes, the type, where 8 is unsigned byte, the number of dimensions, each dimension in 32
bits), then the values. torchvision's reader is not used: it reads no gzip, does not limit how much it reads, and reports
damage by bare assertions; importing it takes a second.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.memory import LARGEST_FILE, open_data
from ld3m_plugin.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file as a uint8 tensor with `dimensions` dimensions; the ending `.gz` means gzip.

    Raises:
        DataError: the file is missing, not IDX, of another type or rank, empty, shorter or longer than its header says, or
            larger than `LARGEST_FILE`.
    """
    start = 4 + 4 * dimensions
    try:
        with open_data(path, packed=path.suffix == ".gz") as file:
            header = file.read(start)
            shape = _shape(header, dimensions, path)
            # One more than it should be: a small archive may unpack to anything.
            data = header + file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read IDX file {path}: {error}; get it again") from error
    size = len(data) - start
    # The lengths must agree: a download that stopped early is an error, never a smaller data set.
    if size == 0 or size != math.prod(shape):
        more = " or more" if size > math.prod(shape) else ""
        raise DataError(f"IDX file {path} has {size}{more} values, its header says {shape}: get it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)


def _shape(header: bytes, dimensions: int, path: Path) -> tuple[int, ...]:
    """The shape that a header states."""
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions "
            f"(it begins with {header[:4].hex(' ') or 'nothing'}): get it again"
        )
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    if len(header) + math.prod(shape) > LARGEST_FILE:
        raise DataError(f"IDX file {path} is larger than {LARGEST_FILE} bytes (uncompressed): get it again")
    return shape


def idx_digest(values: Tensor) -> str:
    """SHA-256 of the uncompressed IDX file that holds these uint8 values."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, _UNSIGNED_BYTE, values.ndim, *values.shape)
    digest = hashlib.sha256(header)
    digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()

"""The IDX format of MNIST and its relatives, plain or gzip-compressed (http://yann.lecun.com/exdb/mnist/).

A big-endian header (two zero bytes, the type, where 8 is unsigned byte, the number of dimensions, each dimension in 32
bits), then the values. torchvision's reader is not used: it reads no gzip, does not limit how much it reads, and reports
damage by bare assertions; importing it takes a second.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.memory import LARGEST_FILE
from ld3m_plugin.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file as a uint8 tensor with `dimensions` dimensions; the ending `.gz` means gzip.

    Raises:
        DataError: the file is missing, not IDX, of another type or rank, empty, shorter or longer than its header says, or
            larger than `LARGEST_FILE`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read IDX file {path}: {error}; get it again") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimensions "
            f"(it begins with {data[:4].hex(' ') or 'nothing'}): get it again"
        )
    if len(data) > LARGEST_FILE:
        raise DataError(f"IDX file {path} is larger than {LARGEST_FILE} bytes (uncompressed): get it again")
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    size = len(data) - start
    # The lengths must agree: a download that stopped early is an error, never a smaller data set.
    if size == 0 or size != math.prod(shape):
        raise DataError(f"IDX file {path} has {size} values, its header says {shape}: get it again")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)


def idx_digest(values: Tensor) -> str:
    """SHA-256 of the uncompressed IDX file that holds these uint8 values."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, _UNSIGNED_BYTE, values.ndim, *values.shape)
    digest = hashlib.sha256(header)
    digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()

"""One expert in one file: a safetensors tensor with one row per epoch, and a header that describes it.

Rows are read through a memory map: the cost of a row does not depend on the number of epochs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from safetensors import SafetensorError
from torch import Tensor

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.store_format import FORMAT, Record, check_format, reason
from ld3m_plugin.objectives.mtt.store.store_identity import Shapes, is_key_of
from ld3m_plugin.storage import complete_file, open_tensors, parse_json, signals_held, write_tensors

_ROWS = "parameters"
_NAME = re.compile(r"expert-(\d{5,})\.safetensors")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_SAFETENSORS_DTYPE = {"float32": "F32", "bf16": "BF16"}
_ROOM = "make room there, then run the same command again"
#: What to do about a system error, by its number.
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "files there may not be so large: give -S dtype=bf16, fewer epochs, or another --root",
}


class Header(Record):
    """The description that the file of an expert carries.

    Attributes:
        key: of the store.
        settings: everything that decides the key.
        expert: its number.
        seed: its random streams were spawned from the seed and the number.
        epochs: of each row: how many epochs of training its weights have had.
        parameters: names and shapes of the parameters that a row concatenates.
        dtype: of the rows.
        losses: mean training loss of each stored epoch from epoch 1 on; empty if unknown.
        imported: whether it comes from elsewhere: the seed does not describe it, and it cannot be trained further.
        source: "trained", or the name of the file it was imported from.
        digests: SHA-256 of each row as stored.
    """

    key: str
    settings: dict[str, Any]
    expert: int
    seed: int
    epochs: tuple[int, ...]
    parameters: Shapes
    dtype: Literal["float32", "bf16"]
    losses: tuple[float, ...]
    imported: bool
    source: str
    digests: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (epochs, P) of the rows."""
        return len(self.epochs), sum(prod(size) for _, size in self.parameters)

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> Self:
        rising = bool(self.epochs) and all(earlier < later for earlier, later in pairwise(self.epochs))
        if not rising or len(self.digests) != len(self.epochs) or not is_key_of(self.key, self.settings):
            raise ValueError("its header contradicts itself")
        return self


def file_name(expert: int) -> str:
    """The name of an expert's file."""
    return f"expert-{expert:05d}.safetensors"


def expert_files(folder: Path) -> dict[int, Path]:
    """The files of experts by number, in order, without opening them."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return dict(sorted((int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name))))


def digests_of(rows: Tensor) -> tuple[str, ...]:
    """SHA-256 of each row as stored."""
    plain = rows.contiguous().view(torch.uint8).numpy()
    return tuple(hashlib.sha256(row.data).hexdigest() for row in plain)


def as_stored(rows: Tensor, dtype: str, names: Sequence[str], advice: str) -> Tensor:
    """Rows (n, P) in the stored dtype.

    Raises:
        ExpertError: values are not finite, or too large for the dtype; the message has the row's name and the advice.
    """
    stored = rows.to(DTYPES[dtype])
    for tried, why, further in (
        (rows, "not finite", ""),
        (stored, f"too large for {dtype}", ", or leave -S dtype out"),
    ):
        bad = (~torch.isfinite(tried)).any(1).nonzero()
        if len(bad):
            raise ExpertError(f"weights of {names[int(bad[0])]} are {why}: {advice}{further}")
    return stored


def write_expert(folder: Path, header: Header, rows: Tensor) -> None:
    """Write an expert: the complete file, or none.

    Args:
        rows: (epochs, P), in the header's dtype.

    Raises:
        ExpertError: it cannot be written, for example because the disk is full.
    """
    path = folder / file_name(header.expert)
    metadata = {name: json.dumps(value) for name, value in header.model_dump().items()}
    try:
        with signals_held(), complete_file(path) as temporary:
            write_tensors(temporary, {_ROWS: rows}, {"format": FORMAT, **metadata})
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError | SafetensorError) -> ExpertError:
    """Make the error for a file that cannot be written, with advice for a full disk and too large a file."""
    # safetensors has no type for system errors; the number is in its text.
    told = re.search(r"os error (\d+)", str(error))
    number = int(told[1]) if told else getattr(error, "errno", None)
    advice = _ADVICE.get(number or 0, "the same command goes on later")
    return ExpertError(f"cannot write {path} ({reason(error)}): {advice}; finished experts are kept")


def read_header(path: Path) -> Header:
    """Read the header of a file and check the shape and dtype of its rows against it; no row is read.

    Raises:
        ExpertError: the file is damaged, not of an expert, or in the format of another version.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        check_format(path, metadata.get("format"))  # first: another format may have other fields
        values = {name: parse_json(metadata[name]) for name in Header.model_fields}
        header = Header.model_validate_json(json.dumps(values))  # of JSON, where a list may be a tuple
        rows = file.get_slice(_ROWS)
        found = tuple(rows.get_shape()), rows.get_dtype()
        expected = header.shape, _SAFETENSORS_DTYPE[header.dtype]
        if found != expected:
            raise ValueError(f"its rows are {found}, its header says {expected}")
    return header


def read_row(path: Path, row: int, expected: str | None = None) -> Tensor:
    """Read one row (P,) as float32, a copy on the CPU, and nothing else of the file.

    Args:
        expected: its digest; default: it is not compared.

    Raises:
        ExpertError: the file is damaged, or the row differs from its digest.
    """
    with _opened(path) as file:
        stored = file.get_slice(_ROWS)[row : row + 1]
        if expected is not None and digests_of(stored) != (expected,):
            raise ValueError(f"row {row} of its weights differs from its digest")
        values: Tensor = stored[0].to(torch.float32, copy=True)
    return values


def check_digests(path: Path, header: Header) -> None:
    """Read every row of a file and compare it with its digest.

    Raises:
        ExpertError: a row differs, or the file is damaged.
    """
    with _opened(path) as file:
        rows = file.get_slice(_ROWS)
        for index, (epoch, expected) in enumerate(zip(header.epochs, header.digests, strict=True)):
            if digests_of(rows[index : index + 1]) != (expected,):
                raise ValueError(f"its weights after epoch {epoch} differ from their digest")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an expert's file; whatever is wrong with its content becomes an `ExpertError` that names it."""
    try:
        with open_tensors(path) as file:
            yield file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ExpertError(
            f"{path} is damaged ({reason(error)}): delete it, then run the command that made it again"
        ) from error

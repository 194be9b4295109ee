"""One expert in one file: a safetensors tensor whose rows are epochs, and a header that says what it is.

A row is read through a memory map, so that it costs what it weighs, however many epochs there are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.store_identity import FORMAT, Shapes, check_format, is_key_of
from ld3m_plugin.storage import own_temporary, write_tensors

_ROWS = "parameters"
_NAME = re.compile(r"expert-(\d{5,})\.safetensors")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
_ROOM = "make room there, then give the same command again"
#: What to do about an error of the system by its number.
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "files there may not be so large: give -S dtype=bf16, fewer epochs, or another --root",
}
_SAFETENSORS_DTYPE = {"float32": "F32", "bf16": "BF16"}


@dataclass(frozen=True)
class Header:
    """What the file of an expert says of itself.

    Attributes:
        key: of the store.
        settings: everything that decided it.
        expert: its number.
        seed: the streams of its training were spawned from it and from the number.
        epochs: what the rows are: the weights after so many epochs.
        parameters: names and shapes of what is laid end to end in a row.
        dtype: of the rows.
        losses: mean training loss of each stored epoch, the first for epoch 1; empty where it is not known.
        imported: whether it comes from elsewhere: the seed says nothing about it, and it cannot be trained further.
        source: "trained", or the file it was imported from.
        digests: SHA-256 of each row as it is stored.
    """

    key: str
    settings: Mapping[str, Any]
    expert: int
    seed: int
    epochs: tuple[int, ...]
    parameters: Shapes
    dtype: str
    losses: tuple[float, ...]
    imported: bool
    source: str
    digests: tuple[str, ...]


_HEADER = TypeAdapter(Header)


def file_name(expert: int) -> str:
    """The name of an expert's file."""
    return f"expert-{expert:05d}.safetensors"


def expert_files(folder: Path) -> dict[int, Path]:
    """The files of experts by number, in order; they are not opened."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def digests_of(rows: Tensor) -> tuple[str, ...]:
    """SHA-256 of each row as it is stored."""
    plain = rows.contiguous().view(torch.uint8).numpy()
    return tuple(hashlib.sha256(row.data).hexdigest() for row in plain)


def write_expert(folder: Path, header: Header, rows: Tensor) -> Path:
    """Write an expert, complete or not there.

    Args:
        rows: (epochs, P), in the header's dtype.

    Raises:
        ExpertError: it cannot be written, as where the disk is full.
    """
    path = folder / file_name(header.expert)
    temporary = own_temporary(path)
    metadata = {name: json.dumps(value) for name, value in asdict(header).items()}
    try:
        write_tensors(temporary, {_ROWS: rows}, {"format": FORMAT, **metadata})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # such as the one that is being told
            temporary.unlink(missing_ok=True)
    return path


def cannot_write(path: Path, error: OSError | SafetensorError) -> ExpertError:
    """What went wrong in one line, with advice to make room where that helps."""
    # safetensors has no type for errors of the system; the number is in its text.
    told = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    advice = _ADVICE.get(number, "the same command goes on later") if number else "the same command goes on later"
    return ExpertError(f"cannot write {path} ({_reason(error)}): {advice}; the experts that are finished stay")


def read_header(path: Path) -> Header:
    """What a file says of itself; its size is checked against it, its rows are not read.

    Raises:
        ExpertError: the file is damaged, not of an expert, or of another version's format.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = _parse(path, file.metadata() or {})
            rows = file.get_slice(_ROWS)
            shape, dtype = tuple(rows.get_shape()), rows.get_dtype()
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, _reason(error)) from error
    length = sum(prod(size) for _, size in header.parameters)
    if not header.epochs or shape != (len(header.epochs), length) or len(header.digests) != len(header.epochs):
        raise _damaged(path, f"rows of shape {shape} where its header says {(len(header.epochs), length)}")
    if dtype != _SAFETENSORS_DTYPE.get(header.dtype):
        raise _damaged(path, f"rows of dtype {dtype} where its header says {header.dtype}")
    return header


def read_row(path: Path, row: int) -> Tensor:
    """One row (P,) as float32, a copy on the CPU; nothing else of the file is read.

    Raises:
        ExpertError: the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            values: Tensor = file.get_slice(_ROWS)[row].to(torch.float32, copy=True)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, _reason(error)) from error
    return values


def check_digests(path: Path, header: Header) -> None:
    """Read every row of a file and compare it with what was written.

    Raises:
        ExpertError: a row differs, or the file is damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            rows = file.get_slice(_ROWS)
            for index, (epoch, expected) in enumerate(zip(header.epochs, header.digests, strict=True)):
                if digests_of(rows[index : index + 1]) != (expected,):
                    raise _damaged(path, f"its weights after epoch {epoch} are not those that were written")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, _reason(error)) from error


def _parse(path: Path, metadata: Mapping[str, str]) -> Header:
    check_format(path, metadata.get("format"))  # first: another format may have other fields
    if metadata.get("format") != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT}")
    values = {name: json.loads(metadata[name]) for name in Header.__dataclass_fields__}
    header = _HEADER.validate_json(json.dumps(values), strict=True)  # of JSON: only there a list may be a tuple
    if any(later <= earlier for earlier, later in pairwise(header.epochs)) or not is_key_of(
        header.key, header.settings
    ):
        raise ValueError("its header contradicts itself")
    return header


def _damaged(path: Path, reason: str) -> ExpertError:
    return ExpertError(f"{path} is damaged ({reason}): delete it, and the command that made it makes it again")


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())[:200]

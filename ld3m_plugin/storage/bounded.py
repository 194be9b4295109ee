"""Readers of text, JSON and tensors that bound what they take, and name the file in every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ld3m_plugin.errors import HostError, one_line

#: Makes the exception of a message.
Refusal = Callable[[str], HostError]

_LARGEST = 16 * 2**20  # bytes; facts of the 1,000 classes of ImageNet take 0.1 MiB


def read_text(path: Path, error: Refusal) -> str:
    """Read a file of at most 16 MiB: one of another purpose must not fill the memory.

    Args:
        error: makes the exception of a message, one line that names the file; the class itself, or a function that adds advice.

    Raises:
        HostError: `error`, for a file that is missing, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise error(f"{path} is damaged: it has more than {_LARGEST // 2**20} MiB")
        return content.decode("utf-8-sig")  # editors may add a byte order mark
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise error(f"{path} is missing") from problem
    except (UnicodeDecodeError, OSError) as problem:
        raise error(f"{path} is damaged: {one_line(getattr(problem, 'strerror', None) or str(problem))}") from problem


def read_json(path: Path, error: Refusal) -> Any:
    """Read JSON of this library; see `read_text` for the limit, the argument and the errors.

    Raises:
        HostError: `error`, also for what is not JSON.
    """
    try:
        return json.loads(read_text(path, error))
    except (ValueError, RecursionError) as problem:
        # Not only JSONDecodeError: a number too long to convert, brackets nested too deep.
        raise error(f"{path} is damaged: {one_line(str(problem))}") from problem


def read_tensors(path: Path, error: Refusal) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file, on the CPU, and the metadata of its header.

    Raises:
        HostError: `error`, as for `read_text`, for a file that is missing or damaged.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, file.metadata() or {}
    except FileNotFoundError as problem:
        raise error(f"{path} is missing") from problem
    except (SafetensorError, OSError) as problem:
        raise error(f"{path} is damaged: {one_line(str(problem))}") from problem

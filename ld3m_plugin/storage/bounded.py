"""Readers of text, JSON and tensors that bound what they take, and name the file in every error."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ld3m_plugin.errors import HostError, is_out_of_memory, one_line
from ld3m_plugin.storage.regular_files import open_regular

if TYPE_CHECKING:
    from torch import Tensor

#: Makes the exception of a message.
Refusal = Callable[[str], HostError]

_LARGEST = 16 * 2**20  # bytes; facts of the 1,000 classes of ImageNet take 0.1 MiB
_LARGEST_LINES = 2**30  # bytes
_LONGEST_LINE = 2**20  # bytes; a record of an evaluation takes some hundred
_DEEPEST = 64  # levels; records of this library have eight
_MOST_TENSORS = 10_000  # the largest published U-Nets have 2,000; 200,000 take safetensors half a minute
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


def read_text(path: Path, error: Refusal) -> str:
    """Read a file of at most 16 MiB: one of another purpose must not fill the memory.

    Args:
        error: makes the exception of a message, one line that names the file; the class itself, or a function that adds advice.

    Raises:
        HostError: `error`, for a file that is missing, too large or not UTF-8, and for what is no file.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise error(f"{path} is damaged: it has more than {_LARGEST // 2**20} MiB")
        return content.decode("utf-8-sig")  # editors may add a byte order mark
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise error(f"{path} is missing") from problem
    except (UnicodeError, OSError) as problem:  # also a name that the file system cannot write
        raise error(f"{path} is damaged: {one_line(getattr(problem, 'strerror', None) or str(problem))}") from problem


def read_json(path: Path, error: Refusal) -> Any:
    """Read JSON of this library; see `read_text` for the limit, the argument and the errors, `parse_json` for more limits.

    Raises:
        HostError: `error`, also for what is not JSON.
    """
    try:
        return parse_json(read_text(path, error))
    except ValueError as problem:
        raise error(f"{path} is damaged: {one_line(str(problem))}") from problem


def parse_json(text: str) -> Any:
    """Read JSON of at most 64 levels; Python limits the digits of a whole number.

    Raises:
        ValueError: it is not JSON, or beyond the limits: deeper content ends the parser, or whoever walks over it.
    """
    depth = 0
    if text.count("[") + text.count("{") > _DEEPEST:  # else it cannot be deep
        for token in _TOKEN.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth > _DEEPEST:
                raise ValueError(f"brackets are nested deeper than {_DEEPEST} levels")
    return json.loads(text)


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line that is a JSON object, as text with its line break and as a mapping, such as those of `metrics.jsonl`.

    Lines of other content are left out: cut off by a kill, not ours, no text, or longer than 1 MiB. What is missing or no file
    has no lines, and so has what is larger than 1 GiB, some million steps.
    """
    with suppress(OSError), open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > _LARGEST_LINES:
            return
        beginning = True
        while line := file.readline(_LONGEST_LINE):
            whole, beginning = beginning, line.endswith(b"\n")
            if whole:  # else the rest of a line that is too long
                with suppress(ValueError):
                    text = line.decode("utf-8")
                    content = parse_json(text)
                    if isinstance(content, dict):
                        yield text, content


def read_tensors(path: Path, error: Refusal) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file, on the CPU, and the metadata of its header.

    Raises:
        HostError: `error`, as for `read_text`, for a file that is missing or damaged.
    """
    try:
        with open_tensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, file.metadata() or {}
    except FileNotFoundError as problem:
        raise error(f"{path} is missing") from problem
    except (SafetensorError, OSError, ValueError) as problem:
        if is_out_of_memory(problem):
            raise
        raise error(f"{path} is damaged: {one_line(str(problem))}") from problem


def _check_length(header: Any, length: int) -> None:
    """Reject a file with more behind its header than the tensors take: mapping it may need more memory than there is."""
    entries = header.values() if isinstance(header, dict) else ()
    offsets = [entry.get("data_offsets") for entry in entries if isinstance(entry, dict)]
    ends = [pair[1] for pair in offsets if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int)]
    if length > max(ends, default=0):
        raise ValueError(f"it has {length} bytes of tensors, and its header says {max(ends, default=0)}")


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """`safetensors.safe_open` of a file on the CPU whose header is within limits: 16 MiB and 10,000 tensors.

    Raises:
        OSError: it cannot be opened, or is no file.
        ValueError: its header is beyond the limits or not JSON.
        SafetensorError: it is damaged, raised here or in the block.
    """
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST:
            raise ValueError(f"its header takes {size} bytes")
        header = parse_json(file.read(size).decode("utf-8"))
        length = os.fstat(file.fileno()).st_size
    if isinstance(header, dict) and len(header) > _MOST_TENSORS:
        raise ValueError(f"it has {len(header)} tensors, more than {_MOST_TENSORS}")
    _check_length(header, length - 8 - size)
    with safe_open(str(path), framework="pt") as opened:
        yield opened

"""Writing files so that a reader, or a run that is killed, never sees half of one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends without an error."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, readable for whom the user's other new files are (the library makes it private)."""
    # Clones: safetensors refuses tensors that share storage.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata)
    mask = os.umask(0o077)  # there is no other way to read it
    os.umask(mask)
    with suppress(PermissionError):  # a file system without modes
        path.chmod(0o666 & ~mask)


def write_text(path: Path, text: str) -> None:
    """Replace the file by `text` in one move."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Replace the file by indented JSON in one move."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

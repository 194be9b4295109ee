"""Files and folders that are complete or not there at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.storage.regular_files import naming

if TYPE_CHECKING:
    from torch import Tensor

_PARTIAL = ".partial"
_SAFETENSORS_OWN = re.compile(r"\.tmp\w{6}")
_LEFT_AFTER = 3600.0  # seconds


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends without an error."""
    temporary = target.with_name(f".{target.name}{_PARTIAL}")
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
    """Write a safetensors file with the permissions of the user's other new files (the library makes it private)."""
    from safetensors.torch import save_file  # late: it imports torch, and settings are read without it

    # Clones: safetensors rejects tensors that share storage.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with naming(path):
        save_file(plain, path, metadata)
    mask = os.umask(0o077)  # the only way to read the mask is to set it
    os.umask(mask)
    with suppress(PermissionError):  # a file system without modes
        path.chmod(0o666 & ~mask)


def write_text(path: Path, text: str, temporary: Path | None = None) -> None:
    """Replace the file by `text` in one move.

    Args:
        temporary: the file beside `path` that is written first; default: always the same name. Where several processes may
            write `path`, each needs its own (`own_temporary`).
    """
    temporary = temporary or path.with_name(f".{path.name}{_PARTIAL}")
    with naming(path):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def write_json(path: Path, content: Any, temporary: Path | None = None) -> None:
    """Replace the file by indented JSON in one move; `temporary` as for `write_text`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n", temporary)


def own_temporary(path: Path) -> Path:
    """A file name beside `path` that no other process uses, on this machine or on another that shares the disk."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")


def is_temporary(path: Path) -> bool:
    """Whether a file is incomplete: still being written, or left by a killed process.

    Such files have names of this library, or those that safetensors uses until it moves a file to its place.
    """
    name = path.name
    return (name.startswith(".") and name.endswith(_PARTIAL)) or _SAFETENSORS_OWN.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete incomplete files of killed processes: those that have not changed for an hour."""
    for path in filter(is_temporary, folder.iterdir()):
        with suppress(OSError):  # another process deleted it first, or the user may not
            if time.time() - path.stat().st_mtime > _LEFT_AFTER:
                path.unlink()

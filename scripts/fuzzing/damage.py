"""Damage the files of a folder as a plan says."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzzing import hostile_pickles, hostile_pictures
from fuzzing.hostile_plans import DEEP, LONG_LIST, LONG_NUMBER, LONG_TEXT, Plan

_TEXTS = (".json", ".yaml", ".jsonl", ".txt")
#: File of the words that the kind "options" types.
OPTIONS = "options.json"
_LARGEST_NUMBER = 2**40


def apply(folder: Path, plan: Plan, leave: frozenset[str] = frozenset()) -> None:
    """Do every damage of a plan to the files below `folder`.

    Args:
        leave: names of files that stay as they are.
    """
    for kind, *rest in plan:
        files = [path for path in sorted(folder.rglob("*")) if path.name not in leave and _is_plain(path)]
        if files:
            _DAMAGES[kind](files, *rest)


def _is_plain(path: Path) -> bool:
    """Whether earlier damage left a file that can be read here."""
    facts = path.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size < _LARGEST_NUMBER


def as_json(content: Any) -> str:
    """JSON with the stand-ins of long and deep values written out; not always valid JSON."""
    text = json.dumps(content)
    text = text.replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000).replace(f'"{LONG_NUMBER}"', "7" * 5000)
    text = text.replace(f'"{LONG_LIST}"', json.dumps([0] * 100_000))
    return text.replace(LONG_TEXT, "long " * 20_000)


def _some(files: list[Path], index: int, *suffixes: str) -> Path:
    fitting = [path for path in files if path.suffix in suffixes] or files
    return fitting[index % len(fitting)]


def _edit_json(files: list[Path], index: int, where: list[int], how: str, value: Any) -> None:
    path = _some(files, index, ".json", ".yaml")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return _edit_bytes(files, index, "flip", 17 * (1 + sum(where)) % 10_000, b"\x55")
    _edit(content, where, how, value)
    path.write_text(as_json(content), encoding="utf-8")


def _edit(content: Any, where: list[int], how: str, value: Any) -> None:
    """Change a place below `content`; each number of `where` chooses a child."""
    for depth, step in enumerate(where):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            break
        key = keys[step % len(keys)]
        child = content[key]
        if isinstance(child, dict | list) and child and depth + 1 < len(where):
            content = child
            continue
        return _change(content, key, how, value)
    _change(content, "added", "add", value)


def _change(content: Any, key: Any, how: str, value: Any) -> None:
    if how == "set":
        content[key] = value
    elif how == "delete":
        del content[key]
    elif isinstance(content, dict):
        name = value if isinstance(value, str) else str(key) + "x"
        content[name] = content.pop(key) if how == "rename" else value if how == "add" else content[key]
    else:
        content.append(content[key] if how == "repeat" and isinstance(key, int) else value)


def _edit_header(files: list[Path], index: int, where: list[int], how: str, value: Any) -> None:
    """Change the JSON header of a safetensors file, and keep its length true."""
    path = _some(files, index, ".safetensors")
    content = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
    except (ValueError, struct.error, RecursionError):
        return
    _edit(header, where, how, value)
    text = as_json(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _edit_tensor(files: list[Path], index: int, which: int, how: str) -> None:
    """Write other tensors in a valid safetensors file with the same metadata."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = _some(files, index, ".safetensors")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata()
    except Exception:  # an earlier damage of the plan
        return
    if not tensors:
        return
    name = list(tensors)[which % len(tensors)]
    tensor = tensors.pop(name)
    changed: dict[str, Callable[[], torch.Tensor]] = {
        "nan": lambda: torch.full_like(tensor.float(), float("nan")),
        "inf": lambda: torch.full_like(tensor.float(), float("inf")),
        "empty": lambda: tensor.new_zeros(0),
        "half": tensor.half,
        "int": tensor.long,
        "bool": tensor.bool,
        "complex": lambda: tensor.to(torch.complex64),
        "rank": lambda: tensor.unsqueeze(0),
        "row": lambda: tensor[:1] if tensor.ndim else tensor.view(1),
        "big": lambda: torch.full_like(tensor, 2**40 if tensor.dtype == torch.int64 else 1),
    }
    if how != "drop":
        tensors[f"{name}\n\x1b[31m" if how == "rename" else name] = changed.get(how, lambda: tensor)()
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)


def _edit_bytes(files: list[Path], index: int, how: str, share: int, data: bytes) -> None:
    path = files[index % len(files)]
    content = bytearray(path.read_bytes())
    # Headers matter more than the rest of long files.
    place = share % 200 % (len(content) + 1) if how == "start" or share % 3 == 0 else share * len(content) // 10_000
    if how in ("flip", "start"):
        for offset, byte in enumerate(data[: len(content) - place]):
            content[place + offset] ^= byte
    elif how == "cut":
        del content[place:]
    elif how == "insert":
        content[place:place] = data
    elif how == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    elif how == "append":
        content += data * 1000
    else:
        content = content[place:] + content[:place]
    path.write_bytes(content)


def _edit_text(files: list[Path], index: int, share: int, text: str) -> None:
    path = _some(files, index, *_TEXTS)
    content = path.read_text(encoding="latin-1")
    place = share * len(content) // 10_000
    if share % 2:  # where a value or a line begins
        place = max(content.rfind("\n", 0, place), content.rfind(": ", 0, place) + 1, 0)
    path.write_bytes(
        (content[:place].encode("latin-1")) + text.encode("utf-8", "replace") + content[place:].encode("latin-1")
    )


def _replace(files: list[Path], index: int, how: str) -> None:
    """Put something else in the place of a file."""
    path = files[index % len(files)]
    content = path.read_bytes()
    path.unlink()
    if how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"x")
    elif how == "own":
        with socket.socket(socket.AF_UNIX) as made:
            os.chdir(path.parent)  # the name of a socket may have 100 characters
            made.bind(path.name[:90])
    elif how in ("zero", "dangling", "loop", "memory"):
        targets = {"zero": "/dev/zero", "dangling": "nowhere", "loop": path.name, "memory": "/proc/self/mem"}
        path.symlink_to(targets[how])
    elif how == "huge":
        path.write_bytes(content)
        os.truncate(path, _LARGEST_NUMBER)  # a sparse file of a tebibyte
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "utf16":
        path.write_bytes(content[:100_000].decode("latin-1").encode("utf-16"))


def _rename(files: list[Path], index: int, name: str) -> None:
    """Give a folder of files another name, or a file; a name that no file can have is left out."""
    path = files[index % len(files)]
    path = path.parent if index % 2 else path
    try:
        new = path.with_name(name + ("" if path.is_dir() else path.suffix))
        if not new.exists():
            path.rename(new)
    except (ValueError, OSError, UnicodeError):
        return


def _pickle(files: list[Path], index: int, which: str, protocol: int) -> None:
    hostile_pickles.write(_some(files, index, ".pkl", ".ckpt", ".pt", ""), which, protocol)


def _picture(files: list[Path], index: int, which: str) -> None:
    hostile_pictures.write(files[index % len(files)], which)


def _add_option(files: list[Path], *option: Any) -> None:
    words = json.loads(files[0].read_text(encoding="utf-8"))
    files[0].write_text(json.dumps([*words, option]), encoding="utf-8")


_DAMAGES: dict[str, Callable[..., None]] = {
    "json": _edit_json,
    "header": _edit_header,
    "tensor": _edit_tensor,
    "bytes": _edit_bytes,
    "text": _edit_text,
    "file": _replace,
    "name": _rename,
    "pickle": _pickle,
    "picture": _picture,
    "option": _add_option,
}

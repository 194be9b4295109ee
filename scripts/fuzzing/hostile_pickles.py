"""Pickles that ask for what no data needs, and bombs. They are written here and never read here."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

from fuzzing.guard import CANARY

#: A pickle of protocol 0 that calls `module.name(argument)`.
_CALL = "c{}\n{}\n(S{!r}\ntR."
_CALLS = {
    "system": ("os", "system", "true"),
    "popen": ("subprocess", "Popen", "true"),
    "exec": ("builtins", "exec", "import antigravity"),
    "eval": ("builtins", "eval", "__import__('this')"),
    "import": ("importlib", "import_module", CANARY),
    "canary": (CANARY, "run", ""),
    "getattr": ("builtins", "getattr", "x"),
    "codecs": ("_codecs", "encode", "x"),
    "numpy_load": ("numpy", "load", "/dev/zero"),
    "torch_load": ("torch", "load", "/dev/zero"),
    "ctypes": ("ctypes", "CDLL", "libc.so.6"),
    "loader": ("torch.hub", "load_state_dict_from_url", "http://localhost/x"),
}


def write(path: Path, which: str, protocol: int) -> None:
    """Put a hostile pickle in the place of a file, or into the zip archive that the file is."""
    content = _content(which, protocol)
    try:
        if protocol % 2 and zipfile.is_zipfile(path):
            return _into_archive(path, content)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, zlib.error, OSError):
        pass  # an earlier damage of the plan
    path.write_bytes(content)


def _content(which: str, protocol: int) -> bytes:
    if which in _CALLS:
        return _CALL.format(*_CALLS[which]).encode()
    made: dict[str, bytes] = {
        "canary_object": f"(i{CANARY}\nRun\n.".encode(),
        # Each level doubles: 2**60 when written out, a few bytes here.
        "bomb": b"]q\x00(" + b"h\x00h\x00" * 30 + b"e.",
        "memo": b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".",
        "deep": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        "long": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
        "hash": b"\x80\x02" + b"N\x85" * 200 + b"}q\x00h\x00N\x86.",
        "zeros": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    }
    values = {
        "number": 1,
        "text": "x",
        "none": None,
        "list": [[], {}, b"", "a\x1b[31m\nb", {"data": [1], "labels": -1}],
    }
    if which in values:
        return pickle.dumps(values[which], protocol=min(protocol, 5))
    return made[which]


def _into_archive(path: Path, content: bytes) -> None:
    """The same archive with another `data.pkl`."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
    path.write_bytes(made.getvalue())

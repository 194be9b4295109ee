"""Settings of the C library's allocator, for the whole process; only the command line calls them."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MAPPED = 64 * 2**10
#: Environment variable that makes `keep_freed_memory` do the opposite.
RETURN_VARIABLE = "LD3M_RETURN_MEMORY"


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks instead of returning them to the kernel; True where that is possible.

    Activations on the CPU are large blocks that are freed and wanted again in the next layer. By default each is mapped
    afresh, and the page faults cost more than the arithmetic (docs/results.md has the measurement). Called by the command
    line, never on import: the setting is the whole process's.
    """
    if os.environ.get(RETURN_VARIABLE) == "1":
        return_freed_memory()
        return False
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Tell glibc to map every block of 64 KiB and more by itself and to unmap it when it is freed; True where that is possible.

    Slower, and without holes: a heap that long-lived small blocks are scattered over grows with every denoising step that is
    recomputed, whether freed memory is kept or not (docs/results.md has the measurement). `LD3M_RETURN_MEMORY=1` asks for it.
    """
    return _mallopt((_M_MMAP_THRESHOLD, _MAPPED))


def _mallopt(*settings: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return all(bool(mallopt(name, value)) for name, value in settings)

"""Settings of the C library's allocator for the whole process; only commands use them."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MAPPED = 64 * 2**10  # bytes


def keep_freed_memory() -> bool:
    """Make glibc reuse freed blocks instead of returning them to the kernel; return True if this is done.

    Activations on the CPU are large blocks that are freed and needed again in the next layer. By default glibc maps each
    block anew, and the page faults cost more than the arithmetic (measured in docs/speed.md). The setting is for the whole
    process, so commands call this, never an import. `LD3M_RETURN_MEMORY=1` in the environment does the opposite.
    """
    if os.environ.get("LD3M_RETURN_MEMORY") == "1":
        return_freed_memory()
        return False
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Make glibc map every block of 64 KiB and more by itself and unmap it when freed; return True if this is done.

    Slower, but the heap does not fragment: otherwise small long-lived blocks scatter over it, and it grows with every
    denoising step that is recomputed (measured in docs/speed.md).
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

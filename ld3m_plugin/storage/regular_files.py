"""Open what is a file and nothing else, and let errors of the system name it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from safetensors import SafetensorError

from ld3m_plugin.errors import system_number


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, at once: a pipe without a writer would wait for ever, and a device such as /dev/zero never ends.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a null character
        raise OSError(None, str(error), str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "it is not a file (a folder, a pipe or a device)", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system in the block name `path`: that of a write names no file, and safetensors has a type of its own."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = system_number(error)
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error

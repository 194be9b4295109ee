"""Reading a network file: its entries as records, with limits on everything the file could claim."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.allowed import allowed
from ld3m_plugin.generators.glad.pickles.machine import Machine
from ld3m_plugin.generators.glad.pickles.records import DamagedError, RefusedError, short

_LONGEST_LINE = 2**20


def read_network_pickle(path: Path) -> Mapping[str, Any]:
    """The entries of an official network file (`G`, `D`, `G_ema`, ...), of which nothing is run or imported.

    Networks are `Record`s with their attributes, tensors are `StoredTensor`s that are read when asked to, numpy's arrays are
    `NumberArray`s; the other values are Python's own.

    Raises:
        PriorError: the file is missing or damaged, asks for a name that is not on the list (`allowed`), or has no entries.
    """
    if not path.is_file():
        raise PriorError(f"{path} is not a file: give the network's .pkl itself")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = Machine(allowed, size).run(cast(IO[bytes], _Bounded(file, size)))
    except RefusedError as error:
        raise PriorError(
            f"{path} {error}, which a network does not need: nothing in it was run. Get the file from a source you trust"
        ) from error
    except MemoryError as error:
        raise PriorError(f"{path} does not fit into memory: read it on a machine with more") from error
    except Exception as error:  # damaged bytes make the decoder raise nearly anything
        reason = str(error) if isinstance(error, DamagedError) else f"{type(error).__name__}: {error}"
        raise PriorError(
            f"{path} is not a readable network file ({short(reason, 200)}): it is truncated or damaged, get it again"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise PriorError(f"{path} holds a {type(content).__name__} without names: it is not an official network file")
    return content


class _Bounded:
    """A file that gives at most what it has left: a plain one sets aside as many bytes as it is asked for."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int) -> bytes:
        data = self._file.read(max(0, min(count, self._left)))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        self._left -= len(line)
        return line

"""Errors that a user can cause, each with one line that says what to do.

The command line catches `HostError` alone, prints the line and leaves with the error's exit code. Anything else that is
raised is a mistake in a program and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """How an `ld3m` command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2


class HostError(Exception):
    """A run could not go on; the message is one line for the user."""

    exit_code: ExitCode = ExitCode.FAILED


class UsageError(HostError):
    """A name, path or value that does not exist or is not valid: exit code 2."""

    exit_code = ExitCode.USAGE


class UnknownBackendError(UsageError):
    """No plugin registered the name that was asked for."""


class UnknownOptionError(UsageError):
    """A backend, a configuration or a network has no such setting."""


class InvalidOptionError(UsageError):
    """A setting has a value outside its type or range."""


class DuplicateBackendError(HostError):
    """Two distributions registered the same name for the same kind."""


class PluginLoadError(HostError):
    """A plugin did not import, raised while registering, or declared a hook that does not exist."""


class DataError(HostError):
    """Images that cannot be read or do not suffice; the message names the path."""


class NonFiniteError(HostError):
    """A loss or a gradient is NaN or infinite; the last good state has been kept."""


class PriorError(HostError):
    """Weights of a pre-trained model that are missing, damaged, or do not fit what is asked of them."""


class ExpertError(HostError):
    """Expert trajectories that are missing, damaged, or do not fit what is asked of them."""


class ArtefactError(HostError):
    """A distilled set or a run folder is missing, incomplete or damaged."""


def nearest(name: str, known: Iterable[str], how_many: int = 3) -> str:
    """The known names closest to `name`, nearest first, for an error message.

    >>> nearest("pixle", ["pixel", "ld3m"])
    "did you mean 'pixel'? known: ld3m, pixel"
    """
    names = sorted(set(known))
    lowered = {candidate.lower(): candidate for candidate in names}
    close = [lowered[match] for match in get_close_matches(name.lower(), lowered, how_many, 0.5)]
    listed = ", ".join(names) or "none"
    if not close:
        return f"known: {listed}"
    return f"did you mean {' or '.join(repr(match) for match in close)}? known: {listed}"


def one_line(text: str, most: int = 200) -> str:
    """`text` without line breaks, cut off after `most` characters: files may hold anything.

    >>> one_line("a\\n  b", 2)
    'a ...'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else line[:most] + "..."

"""Errors that a user can cause, each with one line that says what to do.

The command line catches `HostError` alone, prints the line and leaves with the error's exit code. Anything else that is
raised is a mistake in a program and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from types import TracebackType


class ExitCode(IntEnum):
    """How an `ld3m` command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DISK = 3
    MEMORY = 4
    INTERRUPTED = 130


class HostError(Exception):
    """A run could not go on; the message is one line for the user."""

    exit_code: ExitCode = ExitCode.FAILED

    def __str__(self) -> str:
        """The message with its control characters visible: names in it come from files that anybody may have written."""
        return visible(super().__str__())


class UsageError(HostError):
    """A name, path or value that does not exist or is not valid: exit code 2.

    Attributes:
        location: path of the setting that is wrong, such as ("optimizer", "momentum"), where one is.
    """

    exit_code = ExitCode.USAGE
    location: tuple[str, ...] = ()


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


class PluginFailedError(HostError):
    """A method of a plugin raised, or gave what its contract does not allow; the message names plugin, method and step.

    What was raised is the `__cause__`.
    """


class WrongResultError(PluginFailedError):
    """A plugin gave what its contract does not allow, found where its name is not known: the host puts the name before it."""


class DiskError(HostError):
    """The system could not write or read: no space, a folder that is gone or read-only, a disk that fails; exit code 3."""

    exit_code = ExitCode.DISK


class NoMemoryError(HostError):
    """The memory of the machine or of the device did not suffice: exit code 4."""

    exit_code = ExitCode.MEMORY


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


class MissingArtefactError(ArtefactError, UsageError):
    """There is no distilled set, run or comparison at the path that a command was given: exit code 2."""


class MissingPriorError(PriorError, UsageError):
    """There is nothing at the path of a prior that a command was given: exit code 2."""


_LISTED = 30  # names in a message


def nearest(name: str, known: Iterable[str], how_many: int = 3) -> str:
    """The known names closest to `name`, nearest first, for an error message.

    >>> nearest("pixle", ["pixel", "ld3m"])
    "did you mean 'pixel'? known: ld3m, pixel"
    """
    names = sorted(set(known))
    lowered = {candidate.lower(): candidate for candidate in names}
    close = [lowered[match] for match in get_close_matches(name.lower(), lowered, how_many, 0.5)]
    listed = ", ".join(names[:_LISTED]) or "none"
    if len(names) > _LISTED:
        listed += f", ... ({len(names)} in all)"
    if not close:
        return f"known: {listed}"
    return f"did you mean {' or '.join(repr(match) for match in close)}? known: {listed}"


def typed(flag: str, name: str, value: object) -> str:
    """An option as it is typed on the command line, and as an argument in Python.

    >>> typed("-D", "grayscale", True)
    '-D grayscale=true (Python: grayscale=True)'
    """
    return f"{flag} {name}={str(value).lower() if isinstance(value, bool) else value} (Python: {name}={value!r})"


def one_line(text: str, most: int = 200) -> str:
    """`text` without line breaks, cut off after `most` characters: files may hold anything.

    >>> one_line("a\\n  b", 2)
    'a ...'
    """
    line = " ".join(text.split())
    return line if len(line) <= most else line[:most] + "..."


_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object, *, lines: bool = False) -> str:
    r"""`text` with escapes in place of characters that command a terminal, reorder a line or cannot be encoded.

    They are the control characters (C0, C1, DEL), separators of lines, marks of writing direction, and lone surrogates.

    >>> print(visible("a\x1b[31m\n"))
    a\x1b[31m\x0a

    Args:
        lines: leave line breaks and tabs as they are.
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return match[0] if lines and match[0] in "\n\t" else f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _HIDDEN.sub(escaped, str(text))


# What torch, oneDNN, CUDA, MPS, safetensors and the loader of libraries say; torch has a type of its own for CUDA alone.
_NO_MEMORY = re.compile(
    r"can.?t allocate memory|cannot allocate memory|out of memory|not enough memory|unable to allocate|failed to allocate"
    r"|could not (create|execute) a (primitive|memory)|bad_alloc|ALLOC_FAILED|os error 12\b|can't start new thread"
    r"|failed to map segment from shared object(?!: )",  # with a reason behind it, such as a disk without execution, it is that
    re.IGNORECASE,
)
#: How to make a distillation use less memory.
LESS_MEMORY = (
    "lower --set render_batch=N or the objective's own batch options (`ld3m plugins show NAME`), "
    "or try --set autocast=bf16"
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DISK = _NO_ROOM | {errno.EROFS, errno.EIO}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was explicitly raised from."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error`, or what it was raised from, says that memory ended: on a device, in the heap, in a map of a file."""
    return any(_says_no_memory(one) for one in _chain(error))


def _says_no_memory(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    if isinstance(error, HostError):  # its text may quote a file
        return False
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):  # of torch, which nothing here imports
        return True
    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(_NO_MEMORY.search(str(error))))


def system_number(error: BaseException) -> int | None:
    """The number (`errno`) of a system error; libraries in Rust, such as safetensors, have it in their text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = None if isinstance(error, HostError) else re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def is_of_the_machine(error: BaseException) -> bool:
    """Whether `error` tells of the end of memory or of the disk, which no program is to blame for."""
    return is_out_of_memory(error) or any(system_number(one) in _DISK for one in _chain(error))


def of_the_machine(error: Exception, less_memory: str = "", kept: str = "") -> HostError | None:
    """The one line about an end of memory or disk that `error` tells of, or None if it tells of something else.

    Args:
        less_memory: advice against the end of memory.
        kept: what is kept, and how to go on.
    """
    if isinstance(error, UsageError | NoMemoryError | DiskError):  # a value that was typed is at fault, or it is told
        return None
    if is_out_of_memory(error):
        return NoMemoryError(_joined(f"the device ran out of memory ({_why(error)})", less_memory))
    if isinstance(error, HostError):
        at_fault = any(system_number(one) in _DISK for one in _chain(error))
        return DiskError(_joined(str(error), kept)) if at_fault else None
    number = system_number(error)
    if number is None:
        return None
    room = "make room there" if number in _NO_ROOM else ""
    where = getattr(error, "filename", None) or "the output"
    reason = getattr(error, "strerror", None) or os.strerror(number)
    return DiskError(_joined(f"cannot use {where}: {one_line(reason)}", room, kept))


def _why(error: BaseException) -> str:
    """The first line of the innermost error that speaks of memory."""
    found = [one for one in _chain(error) if _says_no_memory(one)][-1]
    return one_line((str(found).splitlines() or [type(found).__name__])[0])


def frames_of_plugin(error: PluginFailedError) -> str:
    """The traceback of what a plugin raised, without the host's frames before it; empty if it raised nothing."""
    cause = error.__cause__
    return "" if cause is None else "".join(traceback.format_exception(type(cause), cause, _of_plugin(cause))).rstrip()


def place_in_plugin(error: BaseException) -> str:
    """File and line where `error` left the plugin's own code, such as " (backends.py:12)"; empty if it was never in there."""
    rest, place = _of_plugin(error), ""
    package = _package(rest) if rest else ""
    while rest is not None:
        if _package(rest) == package and not _is_between(rest):
            place = f" ({Path(rest.tb_frame.f_code.co_filename).name}:{rest.tb_lineno})"
        rest = rest.tb_next
    return place


#: What calls a plugin's code on behalf of the host.
_BETWEEN = ("torch", "typer", "click", "contextlib")


def _of_plugin(error: BaseException) -> TracebackType | None:
    """The traceback of `error` behind the frames of the host, and of what it calls the plugin with."""
    rest = error.__traceback__
    while rest is not None and rest.tb_next is not None and _is_between(rest):
        rest = rest.tb_next
    return rest


def _is_between(frame: TracebackType) -> bool:
    is_host = frame.tb_frame.f_code.co_filename.startswith(str(Path(__file__).parent) + os.sep)
    return is_host or _package(frame) in _BETWEEN


def _package(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _joined(what: str, *more: str) -> str:
    further = "; ".join(filter(None, more))
    return f"{what}: {further}" if further else what

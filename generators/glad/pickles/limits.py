"""Limits on a pickle, checked in one pass over its opcodes before anything is built.

`pickletools` decodes the opcodes and runs none. The pass follows the stack and the memo as the unpickler would, but keeps only
the kinds of the values. The unpickler calls nothing but what `find_class` returns. Of a pickle that passes, it hashes only keys
whose hash takes no time, and it takes memory and time in proportion to the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

#: Fifty times what the largest network with its discriminator takes. A container takes up to 0.2 KB an opcode.
MOST_OPCODES = 1_000_000
_MOST_OPEN = 1000  # containers
_LONGEST_NUMBER = 128  # bits; longer ones cannot even be printed
#: Of keys: texts in a tuple, characters of a text, bits of a number. Hashes of other tuples and of longer numbers can be chosen
#: so that all keys collide. Hashing a tuple of tuples can take exponential time, and comparing long texts takes long.
_LONGEST_KEY, _LONGEST_TEXT, _LARGEST_KEY = 4, 1000, 60

#: Opcodes that make instances in other ways than REDUCE and NEWOBJ, or refer to something outside the file.
REFUSED = frozenset({"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"})
_GET = {"GET", "BINGET", "LONG_BINGET"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_FILL = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_TUPLES = {"TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_TUPLE"}
#: Opcodes that push what is hashed by its identity, or cannot be hashed.
_OBJECTS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE"}
#: Opcode -> which of the values it takes are keys or members of a set.
_ODD = slice(1, None, 2)
_KEYS = {
    "SETITEM": _ODD,
    "SETITEMS": _ODD,
    "DICT": slice(0, None, 2),
    "ADDITEMS": slice(1, None),
    "FROZENSET": slice(None),
}
_TEXT, _KEY, _OTHER = "text", "key", "other"  # may be in a tuple that is a key; may be a key; neither


class RefusedError(Exception):
    """A pickle asks for what a network does not need. The message goes on after the file's name, without an end."""


class DamagedError(Exception):
    """A pickle that no pickler wrote: truncated, or changed."""


def checked_opcodes(
    file: Any, most: int = MOST_OPCODES, refused: frozenset[str] = REFUSED
) -> Iterator[tuple[str, Any]]:
    """Yield name and argument of each opcode of the pickle at the file's position.

    Args:
        file: bounded, such as a memory map: a plain file reserves as many bytes as it is asked for.
        most: opcodes.
        refused: names of opcodes.

    Raises:
        RefusedError: the pickle has a refused opcode or exceeds a limit.
        Exception: of nearly any type, if it is damaged.
    """
    kinds, start, frame_end = _Kinds(), 0, 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        previous, start = start, position or 0
        if count >= most:
            raise RefusedError(f"takes more than {most} steps to read")
        if opcode.name in refused or opcode.proto > 5:
            raise RefusedError(f"has the instruction {opcode.name}")
        if isinstance(argument, int) and argument.bit_length() > _LONGEST_NUMBER:
            raise RefusedError(f"has a number of more than {_LONGEST_NUMBER} bits")
        # The unpickler drops the rest of a frame that ends inside an opcode, and would read other opcodes than these.
        if previous < frame_end < start or (opcode.name == "FRAME" and start < frame_end):
            raise DamagedError("an instruction crosses the end of its frame")
        if opcode.name == "FRAME":
            frame_end = start + 9 + int(argument or 0)
        kinds.follow(opcode, argument)
        yield opcode.name, argument


def one_line(value: object, most: int = 80) -> str:
    """Return a text, a number or an error for a message: one line of ASCII, cut off. Of other objects it is the type."""
    if isinstance(value, Exception) and not isinstance(value, RefusedError | DamagedError):
        value = f"{type(value).__name__}: {value}"
    text = str(value) if isinstance(value, str | int | float | Exception) else f"a {type(value).__name__}"
    plain = ascii(text[: most + 1])[1:-1]
    return plain if len(plain) <= most else f"{plain[:most]}..."


class _Kinds:
    """Kinds of the values on the unpickler's stack and in its memo."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._marks: list[int] = []
        self._memo: dict[int, str] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Do to the kinds what an opcode does to the values."""
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
            if len(self._marks) > _MOST_OPEN:
                raise RefusedError(f"nests more than {_MOST_OPEN} containers")
        elif name == "POP" and self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        elif name in _GET:
            if argument not in self._memo:
                raise DamagedError("it refers to something it does not have")
            self._stack.append(self._memo[argument])
        elif name in _PUT:
            index = len(self._memo) if argument is None else argument
            if not 0 <= index <= MOST_OPCODES:  # the unpickler reserves memory up to the index
                raise RefusedError(f"numbers an object {index}")
            (self._memo[index],) = taken = self._cut(1)
            self._stack += taken
        else:
            taken = self._take(opcode)
            if name in _KEYS and _OTHER in taken[_KEYS[name]]:
                raise RefusedError("has a key that is neither a text, a number nor a few texts")
            self._stack += _pushed(opcode, argument, taken)
        if name == "STOP" and (self._stack or self._marks):
            raise DamagedError("it ends in the middle of something")

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[str]:
        """Pop the kinds of an opcode's operands: those before the last mark, then those after it."""
        before = opcode.stack_before
        if pickletools.markobject not in before:
            return self._cut(len(before))
        if not self._marks:
            raise DamagedError("a container that was never opened")
        marked = self._cut(len(self._stack) - self._marks[-1])
        self._marks.pop()
        return self._cut(before.index(pickletools.markobject)) + marked

    def _cut(self, count: int) -> list[str]:
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise DamagedError("an instruction without its operands")
        taken = self._stack[start:]
        del self._stack[start:]
        return taken


def _pushed(opcode: pickletools.OpcodeInfo, argument: Any, taken: list[str]) -> list[str]:
    """Kinds of what an opcode pushes after it has taken its operands."""
    name = opcode.name
    if name in _FILL:
        return taken[:1]
    if name == "DUP":
        return taken * 2
    if not opcode.stack_after:
        return []
    if name in _OBJECTS or (name in _TUPLES and len(taken) <= _LONGEST_KEY and set(taken) <= {_TEXT}):
        return [_KEY]
    if isinstance(argument, int) and argument.bit_length() <= _LARGEST_KEY:
        return [_KEY]
    return [_TEXT if isinstance(argument, str | bytes) and len(argument) <= _LONGEST_TEXT else _OTHER]

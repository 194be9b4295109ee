"""What stands for the objects of a network pickle. None of it has behaviour: it is made, filled in and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class RefusedError(Exception):
    """A pickle asks for what a network does not need. The message goes on after the file's name, without an end."""


class DamagedError(Exception):
    """A pickle that no pickler wrote: truncated, or changed."""


@dataclass(eq=False)
class Record:
    """An object of a class that is not imported: a network, a layer, or something beside them that nobody reads.

    Attributes:
        class_name: as the file has it; without its module for the classes whose source the file carries.
        state: the object's attributes, usually a dictionary; None if the file gave none.
    """

    class_name: str
    state: Any = None

    def set_state(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True, eq=False)
class Name:
    """A name on the list of those a file may ask for.

    Attributes:
        path: module and name.
        make: what a call of it gives, a function of this package that checks its arguments. None: it may be mentioned
            (as the value of an attribute) and not called.
    """

    path: str
    make: Callable[..., Any] | None = field(default=None, repr=False)


#: Items of a tuple that is a key, and bits of a number that is. A number of more bits, or in a tuple, could be chosen so that
#: different keys share a hash, and looking one up would take as long as there are keys; hashes of texts cannot be foreseen.
_LONGEST_KEY, _LARGEST_KEY = 4, 60


def key(value: Any) -> Any:
    """The value if it may be a key or a member of a set: of a kind whose hash takes no time, however it was made.

    Raises:
        RefusedError: it is of another kind.
    """
    parts = (value,)
    if type(value) is tuple and len(value) <= _LONGEST_KEY:
        parts = value
        if not all(isinstance(part, str | bytes) for part in parts):
            raise RefusedError("has a key that is a tuple of other things than texts")
    for part in parts:
        if isinstance(part, int) and part.bit_length() > _LARGEST_KEY:
            raise RefusedError("has a key that is a very large number")
        if part is not None and not isinstance(part, str | bytes | int | Record | Name):
            raise RefusedError(f"has a key that is a {type(part).__name__}")
    return value


def short(value: object, most: int = 80) -> str:
    """A text out of a file for a message: one line of ASCII, cut off."""
    text = value if isinstance(value, str) else type(value).__name__
    plain = ascii(text[: most + 1])[1:-1]
    return plain if len(plain) <= most else f"{plain[:most]}..."

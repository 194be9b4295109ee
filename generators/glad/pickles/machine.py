"""The part of pickle's machine that data needs. It calls nothing but the functions of the names it is given.

Opcodes are decoded by `pickletools`, which never runs them, and carried out here, where every limit can be checked on the
spot: the standard unpickler imports, calls and sets attributes as it is told, reserves the memory it is told, and hashes
whatever it is told to.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from ld3m_plugin.generators.glad.pickles.records import DamagedError, Name, Record, RefusedError, key
from ld3m_plugin.generators.glad.pickles.storages import StoredTensor

#: Some times what the largest network with its discriminator takes. A container takes up to 0.2 KB an opcode.
MOST_OPCODES = 1_000_000
#: Containers that are open at the same time.
MOST_OPEN = 1000
#: Of a number, in bits. Longer ones cannot even be printed.
LONGEST_NUMBER = 128

_NUMBERS = {"BINFLOAT", "BININT", "BININT1", "BININT2", "FLOAT", "INT", "LONG", "LONG1", "LONG4"}
_TEXTS = {"BINSTRING", "BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "SHORT_BINUNICODE", "STRING", "UNICODE"}
_BYTES = {"BINBYTES", "BINBYTES8", "BYTEARRAY8", "SHORT_BINBYTES"}
_ARGUMENTS = frozenset(_NUMBERS | _TEXTS | _BYTES)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """A stack, a memo, and a list of names.

    Args:
        names: looks a module and a name up; raises `RefusedError` for what is not on the list.
        size: of the pickle, in bytes.
    """

    def __init__(self, names: Callable[[str, str], Name], size: int) -> None:
        self._names = names
        self._text_left = size + 2**20
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._spent = 0

    def run(self, file: IO[bytes]) -> Any:
        """What the pickle at the beginning of `file` describes.

        Raises:
            RefusedError: it asks for what is not on the list, or for more than a network needs.
            Exception: of nearly any type, if it is damaged.
        """
        for opcode, argument, _ in pickletools.genops(file):
            self.spend(1)
            name = opcode.name
            if name in _ARGUMENTS:
                self._stack.append(_checked(argument))
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _CONTAINERS:
                self._stack.append(_CONTAINERS[name]())
            elif name in _TUPLES:
                self._stack.append(tuple(self._pop_many(_TUPLES[name])))
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise RefusedError(f"has the instruction {name}")
        return self._pop()

    def spend(self, count: int) -> None:
        """Account for work, so that a short pickle cannot cause much of it."""
        self._spent += count
        if self._spent > MOST_OPCODES:
            raise RefusedError(f"takes more than {MOST_OPCODES} steps to read")

    def _pop(self) -> Any:
        return self._pop_many(1)[0]

    def _pop_many(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise DamagedError("an instruction without its operands")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop_marked(self) -> list[Any]:
        if not self._marks:
            raise DamagedError("a container that was never opened")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise DamagedError("an instruction without its operands")
        return self._stack[-1]

    def _protocol(self, version: int) -> None:
        if version > 5:
            raise DamagedError(f"pickle protocol {version}")

    def _frame(self, _size: int) -> None: ...

    def _stop(self, _argument: None) -> None:
        if self._marks or len(self._stack) != 1:
            raise DamagedError("it ends in the middle of something")

    def _mark(self, _argument: None) -> None:
        self._marks.append(len(self._stack))
        if len(self._marks) > MOST_OPEN:
            raise RefusedError(f"nests more than {MOST_OPEN} containers")

    def _discard(self, _argument: None) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()  # as the standard one: there is nothing else to take off
        else:
            self._pop()

    def _discard_marked(self, _argument: None) -> None:
        self._pop_marked()

    def _duplicate(self, _argument: None) -> None:
        self._stack.append(self._top())

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _memoize(self, _argument: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise DamagedError("it refers to something it does not have")
        self._stack.append(self._memo[index])

    def _tuple(self, _argument: None) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def _list(self, _argument: None) -> None:
        self._stack.append(self._pop_marked())

    def _dict(self, _argument: None) -> None:
        items = self._pop_marked()
        self._stack.append({})
        self._set_items(items)

    def _frozen_set(self, _argument: None) -> None:
        self._stack.append({key(item) for item in self._pop_marked()})

    def _append(self, _argument: None) -> None:
        self._extend(self._pop_many(1))

    def _appends(self, _argument: None) -> None:
        self._extend(self._pop_marked())

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Record):  # a leftover's items are nobody's concern
            raise DamagedError(f"items for a {type(target).__name__}")

    def _set_item(self, _argument: None) -> None:
        self._set_items(self._pop_many(2))

    def _set_marked(self, _argument: None) -> None:
        self._set_items(self._pop_marked())

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if len(items) % 2:
            raise DamagedError("a key without a value")
        if isinstance(target, dict):
            target.update({key(name): value for name, value in zip(items[::2], items[1::2], strict=True)})
        elif not isinstance(target, Record):
            raise DamagedError(f"entries for a {type(target).__name__}")

    def _add_items(self, _argument: None) -> None:
        items, target = self._pop_marked(), self._top()
        if not isinstance(target, set):
            raise DamagedError(f"members for a {type(target).__name__}")
        target.update(key(item) for item in items)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._names(module, name))

    def _stack_global(self, _argument: None) -> None:
        module, name = self._pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("a name that is not text")
        self._stack.append(self._names(module, name))

    def _call(self, _argument: None) -> None:
        called, arguments = self._pop_many(2)
        self._stack.append(self._made(called, arguments))

    def _call_named(self, _argument: None) -> None:
        called, arguments, named = self._pop_many(3)
        if not isinstance(named, dict):
            raise DamagedError("named arguments that are not a dictionary")
        self._stack.append(self._made(called, arguments))

    def _made(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, Name):
            raise RefusedError(f"calls a {type(called).__name__}")
        if called.make is None:
            raise RefusedError(f"calls {called.path}")
        if not isinstance(arguments, tuple):
            raise DamagedError("arguments that are not a tuple")
        # What a call makes may be as long as its arguments, which could be the same ones each time.
        self.spend(len(arguments))
        self.spend(sum(len(a) for a in arguments if isinstance(a, list | tuple | dict | set)))
        self._text_left -= sum(len(a) for a in arguments if isinstance(a, str | bytes))
        if self._text_left < 0:
            raise RefusedError("hands on more text than it has")
        return called.make(*arguments)

    def _build(self, _argument: None) -> None:
        state, target = self._pop(), self._top()
        if hasattr(target, "set_state"):
            target.set_state(state)
        elif not isinstance(target, dict | StoredTensor):  # attributes of those are nobody's concern
            raise RefusedError(f"sets attributes of a {type(target).__name__}")


def _checked(argument: Any) -> Any:
    if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER:
        raise RefusedError(f"has a number of more than {LONGEST_NUMBER} bits")
    return bytes(argument) if isinstance(argument, bytearray) else argument


_STEPS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": Machine._protocol,
    "FRAME": Machine._frame,
    "STOP": Machine._stop,
    "MARK": Machine._mark,
    "POP": Machine._discard,
    "POP_MARK": Machine._discard_marked,
    "DUP": Machine._duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Machine._put),
    "MEMOIZE": Machine._memoize,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine._get),
    "TUPLE": Machine._tuple,
    "LIST": Machine._list,
    "DICT": Machine._dict,
    "FROZENSET": Machine._frozen_set,
    "APPEND": Machine._append,
    "APPENDS": Machine._appends,
    "SETITEM": Machine._set_item,
    "SETITEMS": Machine._set_marked,
    "ADDITEMS": Machine._add_items,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._call,
    "NEWOBJ": Machine._call,
    "NEWOBJ_EX": Machine._call_named,
    "BUILD": Machine._build,
}

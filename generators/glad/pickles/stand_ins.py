"""Inert objects that a network file gets for the names it asks for.

The list was made from the released code and from files written as it writes them (torch 1.9 to 2, numpy 1 and 2, pickle and dill
0.3.6). Names are compared whole, so that `numpy.ndarray.tofile` is not `numpy.ndarray`. No module is imported.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ld3m_plugin.data.safe_pickle import unpickle
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.limits import DamagedError, RefusedError, checked_opcodes, one_line

_MOST_NAMES, _LONGEST_NAME = 10_000, 500  # each takes 2 KB
_MOST_ITEMS = 1_000_000  # handed to calls
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # modules as protocols 0 to 2 name them
#: Layers of torch, the discriminator with its feature networks, parts of tensors and numbers, containers that nobody reads,
#: types, and what dill writes for hooks and for classes it cannot find by name.
_ALLOWED = re.compile(
    r"(dnnlib|feature_networks|pg_modules|timm|torch\._C\._nn|torch\.ao|torch\.nn|torch_utils|torchvision|training)(\.\w+)*\.[A-Za-z_]\w*"
    r"|_codecs\.encode|_frozen_importlib\.ModuleSpec|_frozen_importlib_external\.SourceFileLoader"
    r"|_functools\.reduce|_operator\.(getitem|or_)|functools\.partial"
    r"|builtins\.(__dict__|bool|bytes|dict|float|frozenset|getattr|int|list|object|set|setattr|str|tuple|type)"
    r"|collections\.(OrderedDict|defaultdict)|copyreg\._reconstructor"
    r"|dill\._dill(\._create_(cell|code|function|type)|\._import_module|\._load_type)?"
    r"|numpy\.(dtype|ndarray|_?core\.multiarray\.(_reconstruct|scalar)|_?core\.numeric\._frombuffer)"
    r"|torch\.(Size|Tensor|bfloat16|bool|contiguous_format|device|float(16|32|64)|u?int8|int(16|32|64)|strided)"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\._utils\._rebuild_(parameter|parameter_with_state|tensor|tensor_v2)"
    r"|torch\.storage\._load_from_bytes|typing\.(Any|Callable|Dict|List|Optional|Tuple|TypeVar|Union)",
    re.ASCII,
)


@dataclass(eq=False, slots=True)
class Record:
    """Stand-in for an object: a network, a layer, a tensor, or something beside them that nobody reads.

    Attributes:
        class_name: as the file has it; without its module for the classes whose source the file carries.
        state: the object's attributes, usually a dictionary; None if the file gave none.
        arguments: of the call that makes it.
    """

    class_name: str
    # Not printed: a short file can hold what takes exponential time and memory to print.
    state: Any = field(default=None, repr=False)
    arguments: tuple[Any, ...] = field(default=(), repr=False)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, name: Any, value: Any) -> None:
        """Drop an entry of a dictionary's subclass."""

    def extend(self, items: Any) -> None:
        """Drop the items of a list's subclass."""


class _Dictionary(dict[Any, Any]):
    """An OrderedDict or EasyDict."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drop its attributes."""


class StandIn:
    """Class that a file gets for a name; a call, by REDUCE or NEWOBJ, makes a record or runs one of `_FUNCTIONS`."""

    path: str
    names: Names

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        cls.names.spend(*arguments, named)
        if cls.path in _CLASS_MAKERS:
            return cls.names.find("builtins", "object")
        make = _FUNCTIONS.get(cls.path)
        return make(*arguments, **named) if make else Record(cls.path, arguments=arguments)

    def __setstate__(self, state: Any) -> None:
        """Never called: without it, BUILD would set the attributes of the class."""


class Names:
    """The stand-ins of one file, and how much its calls may still take."""

    def __init__(self, size: int) -> None:
        self._found: dict[str, type[StandIn]] = {}
        self._items_left, self._text_left = _MOST_ITEMS, size + 2**20

    def find(self, module: str, name: str) -> type[StandIn]:
        """Return the stand-in for a name.

        Raises:
            RefusedError: it is not on the list, or there are too many.
        """
        if len(module) + len(name) > _LONGEST_NAME:
            raise RefusedError("asks for a name that is very long")
        path = f"{_PYTHON_2.get(module, module)}.{name}"
        if not _ALLOWED.fullmatch(path) or "." in name:
            raise RefusedError(f"asks for {one_line(path)}")
        if path not in self._found:
            if len(self._found) >= _MOST_NAMES:
                raise RefusedError(f"asks for more than {_MOST_NAMES} names")
            self._found[path] = type("StandIn", (StandIn,), {"path": path, "names": self})
        return self._found[path]

    def spend(self, *arguments: Any) -> None:
        """Account for a call, which may copy its arguments, so that a short file cannot cause many copies of a long one."""
        self._items_left -= len(arguments) + sum(len(a) for a in arguments if isinstance(a, list | tuple | dict | set))
        self._text_left -= sum(len(a) for a in arguments if isinstance(a, str | bytes))
        if self._items_left < 0:
            raise RefusedError(f"takes more than {_MOST_ITEMS} steps to read")
        if self._text_left < 0:
            raise RefusedError("hands on more text than it has")


def _persistent(meta: dict[str, Any]) -> Record:
    """Return an object of a class whose source the file carries; the source stays unread."""
    if meta["type"] != "class" or not isinstance(meta["class_name"], str):
        raise DamagedError("a network without a class")
    return Record(meta["class_name"], meta["state"])


def _encode(text: str, codec: str = "latin1") -> bytearray:
    """Encode as pickle does for bytes in old protocols, into what cannot be a key; other codecs could unpack compressed data."""
    if codec not in ("latin1", "latin-1"):
        raise RefusedError("asks for _codecs.encode with another codec than latin1")
    return bytearray(text, "latin1")


def _dictionary(*entries: Any) -> _Dictionary:
    """Return an empty one, which the pickle fills as it does Python's own; Python 2 and protocols 0 and 1 do not."""
    if entries:
        raise RefusedError("gives the entries of a dictionary to a call")
    return _Dictionary()


def _reconstructor(made: Any, _base: Any, *state: Any) -> Any:
    """Return an instance as protocols 0 and 1 have it."""
    if not isinstance(made, type) or not issubclass(made, StandIn):
        raise DamagedError("an instance without a class")
    return made() if state == (None,) else made(*state)


#: Names whose calls return a class: each gets the same, of inert objects.
_CLASS_MAKERS = ("builtins.getattr", "dill._dill._create_type", "dill._dill._load_type")
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    "builtins.bytes": lambda: bytearray(),
    "copyreg._reconstructor": _reconstructor,
    **dict.fromkeys(("collections.OrderedDict", "dnnlib.EasyDict", "dnnlib.util.EasyDict"), _dictionary),
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
}


def read_network_pickle(path: Path) -> Mapping[str, Any]:
    """Read the entries of an official network file (`G`, `D`, `G_ema`, ...), of which nothing is run or imported.

    Returns:
        Networks, tensors and numpy's arrays as `Record`s (`values` reads the last two); the other values are Python's own.

    Raises:
        PriorError: the file is missing or damaged, asks for a name that is not on the list, exceeds a limit, or has no entries.
    """
    if not path.is_file():
        raise PriorError(f"{path} is not a file: give the network's .pkl itself")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in checked_opcodes(content):
                pass
            content.seek(0)
            entries = unpickle(content, Names(len(content)).find)
    except RefusedError as error:
        raise PriorError(
            f"{path} {error}, which a network does not need: nothing in it was run. Get the file from a source you trust"
        ) from error
    except MemoryError as error:
        raise PriorError(f"{path} does not fit into memory: read it on a machine with more") from error
    except Exception as error:  # damaged bytes make the decoder raise nearly anything
        raise PriorError(
            f"{path} is not a readable network file ({one_line(error)}): it is truncated or damaged, get it again"
        ) from error
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise PriorError(f"{path} holds a {type(entries).__name__} without names: give an official network file")
    return entries

"""Every name a network file may ask for, and what it gets: a function of this package, or nothing but a record.

The list was made from the released code and from files written as it writes them (torch 1.9 to 2, numpy 1 and 2, pickle and
dill 0.3.6). Names are compared whole, so that `numpy.ndarray.tofile` is not `numpy.ndarray`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ld3m_plugin.generators.glad.pickles import arrays, storages
from ld3m_plugin.generators.glad.pickles.records import DamagedError, Name, Record, RefusedError, key, short

#: Modules of whose classes and functions a record is made, whatever the name: layers of torch, and the discriminator with
#: its feature networks, which a file has beside the generator. They are never imported, called or looked at.
RECORD_MODULES = (
    "dnnlib",
    "feature_networks",
    "pg_modules",
    "timm",
    "torch._C._nn",
    "torch.ao",
    "torch.nn",
    "torch_utils",
    "torchvision",
    "training",
)
#: What dill writes for the hooks in those feature networks and for spectral norms, whose class it cannot find by name: functions
#: with code and globals, a class, the facts of its module. Records as well: no code is made, no module is found.
_DILL = (
    *(f"dill._dill.{name}" for name in ("_create_cell", "_create_code", "_create_function", "_import_module")),
    *(f"typing.{name}" for name in ("Any", "Callable", "Dict", "List", "Optional", "Tuple", "TypeVar", "Union")),
    "_frozen_importlib.ModuleSpec",
    "_frozen_importlib_external.SourceFileLoader",
    "_functools.reduce",
    "_operator.getitem",
    "_operator.or_",
    "functools.partial",
)
_MENTIONED = (
    *(
        f"builtins.{name}"
        for name in ("bool", "dict", "float", "int", "list", "object", "setattr", "str", "tuple", "type")
    ),
    *(f"torch.{name}" for name in ("Tensor", "bool", "bfloat16", "float16", "float32", "float64")),
    *(f"torch.{name}" for name in ("int8", "int16", "int32", "int64", "uint8", "strided", "contiguous_format")),
    "builtins.__dict__",
    "dill._dill",
    "numpy.ndarray",
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def allowed(module: str, name: str) -> Name:
    """The stand-in for a name.

    Raises:
        RefusedError: it is not on the list.
    """
    # Names of Python 2, which protocols 0 to 2 write.
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    path = f"{module}.{name}"
    if path in _FUNCTIONS:
        return Name(path, _FUNCTIONS[path])
    if path in _MENTIONED:
        return Name(path)
    if _IDENTIFIER.fullmatch(name) and any(f"{module}.".startswith(f"{known}.") for known in RECORD_MODULES):
        return _recorded(path)
    raise RefusedError(f"asks for {short(path)}")


def _recorded(path: str) -> Name:
    return Name(path, partial(_record, path))


def _record(path: str, *_arguments: object) -> Record:
    return Record(path)


def _persistent(meta: object) -> Record:
    """An object of a class whose source the file carries: the source stays unread."""
    fields = [meta.get(part) for part in ("type", "class_name", "state")] if isinstance(meta, dict) else []
    if len(fields) != 3 or fields[0] != "class" or not isinstance(fields[1], str) or not isinstance(fields[2], dict):
        raise DamagedError("a network without class and attributes")
    return Record(fields[1], fields[2])


def _dictionary(pairs: object = ()) -> dict[Any, Any]:
    """An OrderedDict or EasyDict: empty, with its entries to follow; Python 2 gave them as a list of pairs."""
    if isinstance(pairs, dict):
        return dict(pairs)
    made: dict[Any, Any] = {}
    for pair in pairs if isinstance(pairs, list | tuple) else (None,):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise DamagedError("a dictionary of something else than pairs")
        made[key(pair[0])] = pair[1]
    return made


def _empty_dictionary(_factory: object = None, *_rest: object) -> dict[Any, Any]:
    return {}


def _set(items: object = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise DamagedError("a set without members")
    return {key(item) for item in items}


def _size(items: object = ()) -> tuple[Any, ...]:
    if not isinstance(items, list | tuple):
        raise DamagedError("a size without numbers")
    return tuple(items)


def _bytes() -> bytes:
    return b""


def _encode(text: object, codec: object = "latin1") -> bytes:
    """As pickle uses it for bytes in old protocols; other codecs could unpack compressed data."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise RefusedError("asks for _codecs.encode with another codec than latin1")
    return text.encode("latin1")


def _reconstructor(made: object, base: object, state: object = None) -> Any:
    """An instance as protocols 0 and 1 have it."""
    if not isinstance(made, Name) or made.make is None or not isinstance(base, Name):
        raise DamagedError("an instance without a class")
    return made.make() if state is None else made.make(state)


def _from_type(rebuild: object, _type: object, arguments: object, *_rest: object) -> storages.StoredTensor:
    """A tensor with attributes."""
    makes = (storages.rebuild_tensor, storages.rebuild_parameter)
    if not isinstance(rebuild, Name) or rebuild.make not in makes or not isinstance(arguments, tuple):
        raise DamagedError("a tensor without a storage")
    tensor: storages.StoredTensor = rebuild.make(*arguments)
    return tensor


def _getattr(*arguments: object) -> Name:
    """dill fills a function's cells with a `_setattr` it gets this way; every other use is refused."""
    told = [a.path if isinstance(a, Name) else a for a in arguments]
    if told != ["dill._dill", "_setattr", "builtins.setattr"]:
        raise RefusedError("asks for builtins.getattr")
    return _recorded("dill._dill._setattr")


def _create_type(*_arguments: object) -> Name:
    """A class that dill wrote out whole: made into a record if it is called."""
    return _recorded("dill._dill._create_type")


def _load_type(name: object) -> Name:
    """A type by dill's name for it, such as MethodType: made into a record if it is called."""
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        raise RefusedError("asks for a type without a name")
    return _recorded(f"dill._dill._load_type.{short(name)}")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "dnnlib.EasyDict": _dictionary,
    "dnnlib.util.EasyDict": _dictionary,
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _empty_dictionary,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytes": _bytes,
    "builtins.getattr": _getattr,
    "copyreg._reconstructor": _reconstructor,
    "_codecs.encode": _encode,
    "torch.Size": _size,
    "torch.device": partial(_record, "torch.device"),
    "torch.storage._load_from_bytes": storages.load_storage,
    "torch._utils._rebuild_tensor": storages.rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": storages.rebuild_tensor,
    "torch._utils._rebuild_parameter": storages.rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": storages.rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "numpy.dtype": arrays.Dtype,
    **{f"numpy.{core}.multiarray.scalar": arrays.scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": arrays.reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": arrays.from_buffer for core in ("core", "_core")},
    **{path: partial(_record, path) for path in _DILL},
    "dill._dill._create_type": _create_type,
    "dill._dill._load_type": _load_type,
}

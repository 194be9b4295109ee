"""Files that ask for code, for memory or for time: one line each, and nothing happens."""

import builtins
import io
import os
import pickle
import pickletools
import resource
import struct
import subprocess
import sys
import time

import numpy
import pytest
import torch

from ld3m_plugin.data.safe_pickle import unpickle
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles import limits, stand_ins
from ld3m_plugin.generators.glad.pickles.limits import DamagedError, RefusedError
from ld3m_plugin.generators.glad.pickles.network import network_of, read_network
from ld3m_plugin.generators.glad.pickles.stand_ins import Names, Record, StandIn, read_network_pickle
from ld3m_plugin.generators.glad.pickles.values import StoredTensor, number_of, read_storage


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def blob(data):
    return b"B" + struct.pack("<I", len(data)) + data


def named(path):
    module, name = path.rsplit(".", 1)
    return f"c{module}\n{name}\n".encode()


def called(path, *arguments):
    return named(path) + b"(" + b"".join(arguments) + b"tR"


NOTHING = type(None)


def persistent(class_name, **state):
    """An object of a class whose source the file carries."""
    meta = {"type": text("class"), "class_name": text(class_name), "state": dictionary(state)}
    return called("torch_utils.persistence._reconstruct_persistent_obj", dictionary(meta))


def dictionary(items):
    return b"}(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def entry(value):
    """A file whose G_ema is this."""
    return b"\x80\x04}" + text("G_ema") + value + b"s."


@pytest.fixture
def refused(tmp_path):
    """Refuse a file in one line that names it; `cause`: the type of the error below, `NOTHING` if there is none."""

    def refuse(data, cause, read=read_network_pickle):
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        with pytest.raises(PriorError) as excinfo:
            read(path)
        message = str(excinfo.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        assert len(message) < len(str(path)) + 400
        assert isinstance(excinfo.value.__cause__, cause)
        return message.removeprefix(f"{path} ")

    return refuse


@pytest.fixture
def accepted(tmp_path, refused):
    """Return the G_ema of a file that is read, and refused as a network."""

    def accept(data):
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        made = read_network_pickle(path)["G_ema"]
        refused(data, NOTHING, read_network)
        return made

    return accept


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.exec",
        "builtins.__import__",
        "builtins.compile",
        "__builtin__.eval",
        "subprocess.Popen",
        "importlib.import_module",
        "operator.attrgetter",
        "pickle.loads",
        "torch.load",
        "torch.hub.load",
        "torch.storage._load_from_bytes.__globals__",
        "torch._utils._import_dotted_name",
        "torch.jit.load",
        "types.CodeType",
        "types.FunctionType",
        "dill._dill._eval_repr",
        "dill._dill.loads",
        "numpy.load",
        "numpy.fromfile",
        "numpy.core.multiarray.fromfile",
        "torchx.nn.Module",
        "trainingx.anything",
        "ld3m_plugin.registry.load",
    ],
)
@pytest.mark.parametrize("called_too", [False, True])
def test_what_is_not_on_the_list_is_named(refused, path, called_too):
    data = called(path, text("true")) if called_too else named(path)
    assert path.replace("__builtin__", "builtins") in refused(entry(data), RefusedError)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray.tofile"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch.nn", "Module.__init__.__globals__"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("training.networks", "os.system"),
        ("torch_utils.persistence", "_reconstruct_persistent_obj.__globals__"),
        ("torch.nn", "Module\n"),
        ("torch.nn", ""),
    ],
)
def test_names_are_compared_whole(refused, module, name):
    assert f"{module}.{name.strip()}" in refused(entry(text(module) + text(name) + b"\x93"), RefusedError)


LISTED = [
    *(f"dill._dill.{name}" for name in ("_create_cell", "_create_code", "_create_function", "_import_module")),
    *(f"typing.{name}" for name in ("Any", "Callable", "Dict", "List", "Optional", "Tuple", "TypeVar", "Union")),
    *("_frozen_importlib.ModuleSpec", "_frozen_importlib_external.SourceFileLoader", "_functools.reduce"),
    *("_operator.getitem", "_operator.or_", "functools.partial", "builtins.__dict__", "dill._dill", "numpy.ndarray"),
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "frozenset", "int", "list", "object", "set")),
    *(f"builtins.{name}" for name in ("setattr", "str", "tuple", "type")),
    *(f"torch.{name}" for name in ("Size", "Tensor", "bool", "bfloat16", "device", "float16", "float32", "float64")),
    *(f"torch.{name}" for name in ("int8", "int16", "int32", "int64", "uint8", "strided", "contiguous_format")),
    *(f"torch._utils._rebuild_{name}" for name in ("tensor", "tensor_v2", "parameter", "parameter_with_state")),
    *(
        "torch.storage._load_from_bytes",
        "torch._tensor._rebuild_from_type_v2",
        "collections.defaultdict",
        "numpy.dtype",
    ),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
]


def test_everything_on_the_list_is_a_stand_in():
    """What a file gets for a name is a class of this package, and a call of it gives an inert object or a new container."""
    paths = [*stand_ins._FUNCTIONS, *stand_ins._CLASS_MAKERS, *LISTED]
    names = Names(100)
    for path in [*paths, "torch.nn.Linear", "timm.models.anything", "training.x.y"]:
        found = names.find(*path.rsplit(".", 1))
        assert found.__mro__ == (found, StandIn, object)
        for arguments in [
            (),
            ("a",),
            ({},),
            ([], {}),
            (found, found, None),
            ({"type": "class", "class_name": "a", "state": 1},),
        ]:
            try:
                made = found(*arguments)
            except (DamagedError, RefusedError, TypeError, KeyError, ValueError):
                continue
            assert isinstance(made, Record | dict | bytearray) or issubclass(made, StandIn), path
            assert isinstance(made, bytearray) or made.__setstate__
    with pytest.raises(RefusedError, match=r"builtins\.eval"):
        names.find("builtins", "eval")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (text("a") + b")R", TypeError),
        (b"})R", TypeError),
        (called("torch.nn.Module") + b")R", TypeError),
        (called("collections.OrderedDict") + b")R", TypeError),
        (called("torch.nn.Module") + b")\x81", pickle.UnpicklingError),
        (text("a") + b"}b", AttributeError),
        (b"]}b", AttributeError),
        (b"}}b", AttributeError),
        (named("torch.nn.Module") + b"}b", TypeError),
        (named("collections.OrderedDict") + b"}" + text("path") + text("builtins.object") + b"sb", TypeError),
        (
            named("torch_utils.persistence._reconstruct_persistent_obj") + b"N}" + text("__new__") + b"N" + b"s\x86b",
            TypeError,
        ),
        (b"(" + named("os.system") + text("true") + b"o", RefusedError),
        (b"(" + text("true") + b"ios\nsystem\n", RefusedError),
        (b"(" + named("torch.nn.Module") + text("true") + b"o", RefusedError),
        (b"\x82\x01", RefusedError),
        (b"\x83\x01\x00", RefusedError),
        (b"\x84\x01\x00\x00\x00", RefusedError),
        (b"Pkey\n", RefusedError),
        (text("key") + b"Q", RefusedError),
        (b"\x97", RefusedError),
        (b"\x98", RefusedError),
        (called("_codecs.encode", text("a"), text("zlib")), RefusedError),
        (called("copyreg._reconstructor", text("a"), text("b"), b"N"), DamagedError),
        (called("copyreg._reconstructor", called("torch.nn.Module"), named("builtins.object"), b"N"), DamagedError),
        (called("collections.OrderedDict", b"](]" + text("a") + b"aK\x01ae"), RefusedError),
        (
            called(
                "copy_reg._reconstructor", named("dnnlib.EasyDict"), named("__builtin__.dict"), b"}" + text("a") + b"Ns"
            ),
            RefusedError,
        ),
        (named("collections.OrderedDict") + b")}" + text("a") + b"Ns\x92", TypeError),
    ],
)
def test_attempts_that_are_refused(refused, value, cause):
    refused(entry(value), cause)


#: Calls that would do or find something, and here only make something inert.
INERT = [
    called("builtins.getattr", named("dill._dill"), text("loads")),
    called("builtins.getattr", text("a"), text("upper")),
    called("builtins.getattr", named("torch.nn.Module"), text("__init__")),
    called("builtins.setattr", named("torch.nn.Module"), text("a"), text("b")),
    called("builtins.object"),
    called("numpy.dtype", text("O8")),
    called("numpy.dtype", text("V8")),
    called("numpy.dtype", text("f8,O")),
    called("numpy.core.multiarray._reconstruct", named("torch.nn.Module")),
    called("torch.storage._load_from_bytes", blob(b"PK\x03\x04")),
]


@pytest.mark.parametrize("value", INERT)
def test_attempts_that_make_something_inert(accepted, value):
    made = accepted(entry(value))
    assert type(made) is Record or made.__mro__ == (made, StandIn, object)


@pytest.mark.parametrize("name", ["torch.nn.Module", "collections.OrderedDict", "builtins.getattr", "_codecs.encode"])
@pytest.mark.parametrize("state", [b"}%s", b"N}%s\x86", b"}%s}%s\x86"])
def test_no_attribute_of_a_stand_in_can_be_set(refused, name, state):
    """BUILD, in both its forms: a dictionary, and a pair of them."""
    setting = text("path") + text("builtins.object") + b"s"
    refused(entry(named(name) + state.replace(b"%s", setting) + b"b"), TypeError)


def test_attributes_of_what_is_made_are_dropped_or_kept_as_they_are(tmp_path):
    setting = b"}" + text("class_name") + text("x") + b"s"
    path = tmp_path / "network.pkl"
    for name in ("torch.nn.Module", "collections.OrderedDict", "builtins.set"):
        path.write_bytes(entry(called(name) + b"N" + setting + b"\x86b"))
        made = read_network_pickle(path)["G_ema"]
        assert made == {} or (made.class_name, made.state) == (name, (None, {"class_name": "x"}))


def test_a_frame_that_hides_opcodes(refused):
    """The unpickler drops what is left of a frame inside an opcode, and here reads on in the middle of a text."""
    hidden = b"cos\nsystem\n(" + text("true") + b"tR."
    data = b"\x80\x04\x95" + struct.pack("<Q", 3) + b"X" + struct.pack("<I", len(hidden) + 2) + b"\0\0" + hidden + b"."
    assert [opcode.name for opcode, _, _ in pickletools.genops(data)] == ["PROTO", "FRAME", "BINUNICODE", "STOP"]
    found = []
    unpickle(io.BytesIO(data), lambda *name: found.append(name) or str)
    assert found == [("os", "system")]
    refused(data, DamagedError)
    within = b"\x80\x04\x95" + struct.pack("<Q", 12) + b"\x95" + struct.pack("<Q", 1) + b"N."
    refused(within, DamagedError)


@pytest.fixture
def with_storage(entries):
    """The golden network with other bytes in the place of a storage."""

    def load(data):
        content = entries()
        parameters = content["G_ema"].state["_modules"]["mapping"].state["_modules"]["fc1"].state["_parameters"]
        tensor = parameters["bias"].arguments[0] if len(parameters["bias"].arguments) == 3 else parameters["bias"]
        storage = Record("torch.storage._load_from_bytes", arguments=(data,))
        parameters["bias"] = Record(tensor.class_name, arguments=(storage, *tensor.arguments[1:]))
        with pytest.raises(PriorError, match=r"mapping\.fc1\.bias") as excinfo:
            network_of(content, "network.pkl")
        assert len(str(excinfo.value)) < 400
        return excinfo.value.__cause__

    return load


@pytest.mark.slow
def test_a_storage_is_looked_through(with_storage, tmp_path):
    """A pickle in the place of a storage inside the pickle: what torch.load would run, were it allowed to."""
    sentinel = tmp_path / "ran"
    for payload in (Call(os.system, f"touch {sentinel}"), Call(eval, "1"), Call(bytearray, 10**12)):
        stream = io.BytesIO()
        torch.save(payload, stream, _use_new_zipfile_serialization=False)
        assert isinstance(with_storage(stream.getvalue()), RefusedError)
        assert isinstance(with_storage(pickle.dumps(payload, 2)), RefusedError)
    assert isinstance(with_storage(b"PK\x03\x04" + bytes(100)), RefusedError)
    assert not sentinel.exists()


def in_storage(value):
    """A file of torch.save's whose object is this."""
    parts = pickletools_parts(stored([1.0, 2.0]))
    return b"".join(parts[:3]) + b"\x80\x02" + value + b"." + parts[4]


def pickletools_parts(data):
    stream, parts = io.BytesIO(data), []
    for _ in range(4):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
        parts.append(data[start : stream.tell()])
    return [*parts, data[stream.tell() :]]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    "levels",
    [b")" + b"".join(b"q%c0(" % n + b"h%c" % n * 10 + b"t" for n in range(30)), b")" + b"2\x86" * 60],
)
def test_what_takes_a_storage_for_ever(with_storage, levels):
    """Tuples of tuples as a key, to be hashed, and as an unknown kind of storage, to be printed."""
    for value in (b"}" + levels + b"Ns", b"(" + levels + b"tQ"):
        assert isinstance(with_storage(in_storage(value)), RefusedError)


def stored(numbers):
    stream = io.BytesIO()
    torch.save(torch.tensor(numbers).storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_storage_that_claims_more_than_it_has(with_storage):
    data = stored([1.0, 2.0])
    old, new = b"cpuq\x03K\x02N", b"cpuq\x03J\xff\xff\xff\x7fN"
    assert data.count(old) == 1
    assert isinstance(with_storage(data.replace(old, new)), RefusedError)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("at", [4, 18])
def test_a_storage_of_another_format(with_storage, at):
    """With another magic number than torch's, or another version."""
    data = bytearray(stored([1.0, 2.0]))
    data[at] += 1
    assert isinstance(with_storage(bytes(data)), RefusedError)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(("shape", "stride", "offset"), [((1000, 1000), (0, 0), 0), ((2,), (5,), 0), ((2,), (1,), 1)])
def test_a_view_beyond_its_storage(shape, stride, offset):
    data = stored([1.0, 2.0])
    with pytest.raises(DamagedError, match="its storage holds 2 numbers"):
        StoredTensor(data, offset, shape, stride).view(read_storage(data))


class Restored(numpy.ndarray):
    def __reduce__(self):
        return Call(os.system, "true").__reduce__()


def test_arrays_of_objects(refused, accepted):
    for array in (numpy.array([{}]), numpy.zeros(2, [("a", "f4")])):
        made = accepted(pickle.dumps({"G_ema": array}))
        assert type(made) is Record
        assert number_of(made) is None
    assert "posix.system" in refused(pickle.dumps({"G_ema": numpy.zeros(2).view(Restored)}), RefusedError)


def laughs(levels):
    """Each tuple holds the one before it ten times, and the last one is a key: its hash would take 10^levels steps."""
    return b")" + b"".join(b"q%c0(" % n + b"h%c" % n * 10 + b"t" for n in range(levels)) + b"N"


def repeated(value, use, times):
    """A value, once, and its uses, each of which finds it in the memo as `%s` and leaves nothing."""
    return value + b"q\x00" + use.replace(b"%s", b"h\x00") * times


def nested(use):
    """A value of 100,000 levels, each made of the one before it, which it finds in the memo as `h\\x00`."""
    return b"Nq\x000" + (use + b"q\x000") * 100_000 + b"h\x00"


LONG = b"(" + b"N" * 100_000 + b"t"
TWICE = text("a" * 10**7) + b"q\x00" + text("a" * 10**7) + b"q\x01"
UNPRINTABLE = called("torch.nn.X") + b"}" + text("a") + laughs(8)[:-1] + b"sb"
#: Value and cause of its refusal; None: it is read, and is no network.
BOMBS = {
    "memo": (b"]r\xff\xff\xff\x7f0N", RefusedError),
    "memo in text": (b"]p99999999999\n0N", RefusedError),
    "memo below zero": (b"]p-1\n0N", RefusedError),
    "bytes": (b"\x8e" + struct.pack("<Q", 2**40), ValueError),
    "bytearray": (b"\x96" + struct.pack("<Q", 2**40), ValueError),
    "text": (b"\x8d" + struct.pack("<Q", 2**40), ValueError),
    "frame": (b"\x95" + struct.pack("<Q", 2**60) + b"N", pickle.UnpicklingError),
    "frames": ((b"\x95" + struct.pack("<Q", 2**20)) * 100_000 + b"N", DamagedError),
    "number": (b"\x8b" + struct.pack("<i", 2**30), ValueError),
    "long number": (b"\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000, RefusedError),
    "long number in text": (b"L" + b"9" * 4000 + b"L\n", RefusedError),
    "longer number in text": (b"I" + b"9" * 10**6 + b"\n", ValueError),
    "deep tuples": (b")" + b"\x85" * 500_000, None),
    "deep lists": (b"]" * 300_000 + b"a" * 299_999, None),
    "deep dictionaries": ((b"}" + b"N") * 200_000 + b"N" + b"s" * 200_000, None),
    "deep records": (nested(called("torch.nn.X") + b"h\x00b"), None),
    "deep calls": (nested(named("torch.nn.X") + b"h\x00\x85R"), None),
    "deep attributes": (nested(b"}" + text("a") + b"h\x00s"), None),
    "a deep key": (b"})" + b"\x85" * 500_000 + b"Ns", RefusedError),
    "marks": (b"(" * 100_000, RefusedError),
    "steps": (b"N0" * 600_000, RefusedError),
    "sets": (b"\x8f" * 1_100_000, RefusedError),
    "records": ((called("torch.nn.X") + b"0") * 170_000 + b"N", None),
    "kept records": (b"(" + named("torch.nn.X") + b"q\x00" + b"h\x00)R" * 300_000 + b"t", None),
    "kept dictionaries": (b"(" + named("collections.OrderedDict") + b"q\x00" + b"h\x00)R" * 300_000 + b"t", None),
    "made classes": (b"(" + named("dill._dill._create_type") + b"q\x00" + b"h\x00)R" * 300_000 + b"t", None),
    "names": (b"(" + b"".join(named(f"torch.nn.X{n}") for n in range(200_000)) + b"t", RefusedError),
    "a long name": (
        text("torch.nn." + "a" * 10**6) + b"q\x000" + text("X") + b"q\x01" + b"h\x00h\x01\x930" * 100_000,
        RefusedError,
    ),
    "laughs": (b"}" + laughs(40) + b"s", RefusedError),
    "laughs in a set": (b"\x8f(" + laughs(40) + b"\x90", RefusedError),
    "laughs in a frozen set": (b"(" + laughs(40) + b"\x91", RefusedError),
    "laughs in a dictionary": (b"(" + laughs(40) + b"d", RefusedError),
    "laughs in many": (b"}(" + laughs(40) + b"u", RefusedError),
    "laughs in a call": (called("builtins.frozenset", b"(" + laughs(40) + b"l"), None),
    "laughs in pairs": (called("collections.OrderedDict", b"((" + laughs(40) + b"ll"), RefusedError),
    "laughs in a kind": (called("numpy.dtype", laughs(40)), None),
    "a name of a module that takes half a GB in print": (
        persistent(
            "Generator",
            _modules=dictionary({"synthesis": persistent("SynthesisNetwork", _modules=b"}" + UNPRINTABLE + b"Ns")}),
        ),
        None,
    ),
    "copies": (b"(" + b"N" * 1000 + b"lq\x00" + (named("torch.Size") + b"h\x00\x85R0") * 5000 + b"0N", RefusedError),
    "text copies": (repeated(text("a" * 100_000), named("_codecs.encode") + b"%s\x85R0", 5000), RefusedError),
    "the same arguments": (repeated(LONG, named("torch.nn.X") + b"%sR0", 500), RefusedError),
    "the same new arguments": (repeated(LONG, named("torch.nn.X") + b"%s\x810", 500), RefusedError),
    "the same names": (
        b"}("
        + b"".join(text(f"a{n}") + b"N" for n in range(100_000))
        + b"uq\x00"
        + (named("torch.nn.X") + b")h\x00\x920") * 500,
        RefusedError,
    ),
    "keys whose hash can be chosen": (b"}(K\x01K\x02tNs", RefusedError),
    "a long number as a key": (b"}\x8a\x09" + b"\x01" * 9 + b"Ns", RefusedError),
    "long keys that are equal": (TWICE + b"0}" + b"h\x00Nsh\x01Ns" * 100_000, RefusedError),
    "long bytes that are equal": (
        b"0".join(named("_codecs.encode") + text("a" * 10**6) + b"\x85Rq" + index for index in (b"\x00", b"\x01"))
        + b"0}"
        + b"h\x00Nsh\x01Ns" * 100_000,
        TypeError,
    ),
    "an array": (
        called(
            "numpy.core.numeric._frombuffer", blob(b"a"), called("numpy.dtype", text("u1")), b"J\xff\xff\xff\x7f\x85"
        ),
        None,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(refused, accepted, name):
    value, cause = BOMBS[name]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if cause:
        refused(entry(value), cause)
    else:
        accepted(entry(value))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KB
    assert time.process_time() - start < 30


def test_numbers_of_a_long_array_are_not_listed(entries, as_record):
    content = entries()
    content["G_ema"].state["z_dim"] = as_record(numpy.full(10**7, 16, "u1"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PriorError, match="z_dim"):
        network_of(content, "network.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


@pytest.mark.slow
def test_many_modules_take_no_time(entries):
    content = entries()
    modules = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]
    modules |= {f"more{n}": Record("X", {}) for n in range(300_000)}
    start = time.process_time()
    with pytest.raises(PriorError, match="more0"):
        network_of(content, "network.pkl")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "value",
    [
        b"]q\x00h\x00a",
        b"}q\x00" + text("a") + b"h\x00s",
        called("torch.nn.X") + b"q\x00h\x00b",
        called("collections.OrderedDict") + b"q\x00" + text("_modules") + b"h\x00s",
        called("torch.nn.X") + b"q\x00}" + text("_modules") + b"}" + text("mapping") + b"h\x00ssb",
        called("torch.nn.X") + b"q\x00h\x00Ns",
        called("torch.nn.X") + b"q\x00h\x00a",
    ],
)
def test_what_contains_itself(accepted, value):
    assert isinstance(accepted(entry(value)), Record | dict | list)


def test_limits_leave_room_for_real_files(golden):
    used = sum(1 for _ in pickletools.genops(golden(64).read_bytes()))
    assert used * 50 < limits.MOST_OPCODES


@pytest.mark.slow
def test_truncated_anywhere(golden, entries, write, refused):
    """At every 97th byte of a network with one layer, and here and there in a whole one."""
    content = entries()
    modules = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]
    for name in [name for name in modules if name[0] == "L" and name != "L7_16_3"]:
        del modules[name]
    for data, step in ((write(content).read_bytes(), 97), (golden(16).read_bytes(), 9973)):
        for end in range(0, len(data), step):
            assert "damaged" in refused(data[:end], Exception)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(100), b"not a pickle", b"\x80\x09N.", b"<html>404</html>"])
def test_other_files(refused, data):
    refused(data, ValueError)


@pytest.mark.parametrize("value", [[1], (1, 2, 3), {1: 2}, "a", None, {}])
def test_other_pickles(refused, value):
    refused(pickle.dumps(value), NOTHING, read_network)


def test_no_file(tmp_path):
    for path in (tmp_path / "missing.pkl", tmp_path):
        with pytest.raises(PriorError, match="is not a file"):
            read_network(path)


SCRIPT = """
import sys
from pathlib import Path
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.network import read_network

golden, *files = map(Path, sys.argv[1:])
read_network(golden)  # whatever torch imports or compiles on first use
seen, modules = [], set(sys.modules)
sys.addaudithook(lambda event, _: seen.append(event) if watching else None)
watching = True
tensors = read_network(golden)[1]
for file in files:
    try:
        read_network(file)
    except PriorError as error:
        assert str(error).startswith(str(file)) and "\\n" not in str(error)
    else:
        raise SystemExit(f"{file} was read")
watching = False
harmless = {"open", "mmap.__new__", "builtins.id", "object.__getattr__", "marshal.loads", "pickle.find_class"}
harmless |= {"sys._getframe", "sys._getframemodulename"}
unexpected = {event for event in seen if event not in harmless} - {"object.__setattr__", "object.__delattr__"}
assert set(sys.modules) == modules, set(sys.modules) - modules
print(len(tensors), sorted(unexpected))
"""


@pytest.mark.slow
def test_python_itself_reports_nothing_run_or_imported(golden, tmp_path):
    """The interpreter's audit events, in a process of its own (a hook cannot be taken away again)."""
    sentinel = tmp_path / "ran"
    payloads = [
        called("os.system", text(f"touch {sentinel}")),
        called("builtins.eval", text(f"open({str(sentinel)!r}, 'w')")),
        called("builtins.exec", text(f"open({str(sentinel)!r}, 'w')")),
        called("builtins.getattr", named("os.path"), text("os")),
        called("builtins.__import__", text("antigravity")),
        named("antigravity.fly"),
        (called("dill._dill._import_module", text("antigravity"))),
        called("torch.nn.modules.antigravity.Fly"),
        called("timm.models.anything", text("a")) + b"}b",
        *INERT,
    ]
    files = []
    for number, payload in enumerate(payloads):
        files.append(tmp_path / f"{number}.pkl")
        files[-1].write_bytes(entry(payload))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(golden(16)), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == "[]"
    assert not sentinel.exists()


def test_embedded_source_is_not_even_compiled(golden, monkeypatch):
    def fail(*arguments, **named):
        raise AssertionError(arguments)

    for name in ("exec", "eval", "compile", "__import__"):
        monkeypatch.setattr(builtins, name, fail)
    content = read_network_pickle(golden(64))
    monkeypatch.undo()
    assert content["G_ema"].class_name == "SuperresGenerator"
    assert b"raise RuntimeError('source embedded" in golden(64).read_bytes()

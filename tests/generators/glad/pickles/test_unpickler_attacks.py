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

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles import machine, unpickler
from ld3m_plugin.generators.glad.pickles.allowed import allowed
from ld3m_plugin.generators.glad.pickles.network import read_network
from ld3m_plugin.generators.glad.pickles.records import RefusedError

UNTRUSTED = ", which a network does not need: nothing in it was run. Get the file from a source you trust"


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


def entry(value):
    """A file whose G_ema is this."""
    return b"\x80\x04}" + text("G_ema") + value + b"s."


@pytest.fixture
def refused(tmp_path):
    def refuse(data, read=unpickler.read_network_pickle):
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        with pytest.raises(PriorError) as excinfo:
            read(path)
        message = str(excinfo.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        assert len(message) < len(str(path)) + 400
        return message.removeprefix(f"{path} ")

    return refuse


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
    expected = path.replace("__builtin__", "builtins")
    assert refused(entry(data)) == f"asks for {expected}{UNTRUSTED}"


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
    message = refused(entry(text(module) + text(name) + b"\x93"))
    assert message.startswith(f"asks for {module}.{name}".rstrip("\n").split("\n")[0])
    assert message.endswith(UNTRUSTED)


def test_everything_on_the_list_is_a_stand_in():
    """Nothing that a file can get is a class or function of anything but this package."""
    from functools import partial

    from ld3m_plugin.generators.glad.pickles import allowed as module

    for path in [*module._FUNCTIONS, *module._MENTIONED, "torch.nn.Linear", "timm.models.anything", "training.x.y"]:
        make = allowed(*path.rsplit(".", 1)).make
        make = make.func if isinstance(make, partial) else make
        assert make is None or make.__module__.startswith("ld3m_plugin.generators.glad.pickles."), path
    with pytest.raises(RefusedError, match=r"asks for builtins\.eval"):
        allowed("builtins", "eval")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (called("builtins.getattr", named("dill._dill"), text("loads")), "asks for builtins.getattr"),
        (called("builtins.getattr", text("a"), text("upper")), "asks for builtins.getattr"),
        (called("builtins.getattr", named("torch.nn.Module"), text("__init__")), "asks for builtins.getattr"),
        (called("builtins.setattr", named("torch.nn.Module"), text("a"), text("b")), "calls builtins.setattr"),
        (called("builtins.object"), "calls builtins.object"),
        (text("a") + b")R", "calls a str"),
        (called("torch.nn.Module") + b")R", "calls a Record"),
        (called("collections.OrderedDict") + b")R", "calls a dict"),
        (text("a") + b"}b", "sets attributes of a str"),
        (named("torch.nn.Module") + b"}b", "sets attributes of a Name"),
        (b"(" + named("os.system") + text("true") + b"o", "asks for os.system"),
        (b"(" + text("true") + b"ios\nsystem\n", "has the instruction INST"),
        (b"(" + named("torch.nn.Module") + text("true") + b"o", "has the instruction OBJ"),
        (b"\x82\x01", "has the instruction EXT1"),
        (b"\x83\x01\x00", "has the instruction EXT2"),
        (b"\x84\x01\x00\x00\x00", "has the instruction EXT4"),
        (b"Pkey\n", "has the instruction PERSID"),
        (text("key") + b"Q", "has the instruction BINPERSID"),
        (b"\x97", "has the instruction NEXT_BUFFER"),
        (called("numpy.dtype", text("O8")), "holds numpy values of kind O8"),
        (called("numpy.dtype", text("V8")), "holds numpy values of kind V8"),
        (called("numpy.dtype", text("f8,O")), "holds numpy values of kind f8,O"),
        (called("numpy.core.multiarray._reconstruct", named("torch.nn.Module")), "holds a subclass of numpy.ndarray"),
        (called("_codecs.encode", text("a"), text("zlib")), "asks for _codecs.encode with another codec than latin1"),
        (called("torch.storage._load_from_bytes", blob(b"PK\x03\x04")), "holds a storage in an archive"),
    ],
)
def test_attempts_at_code(refused, value, reason):
    assert refused(entry(value)).startswith(reason)


def test_a_storage_is_looked_through(refused, tmp_path):
    """A pickle in the place of a storage inside the pickle: what torch.load would run, were it allowed to."""
    sentinel = tmp_path / "ran"
    for payload in (Call(os.system, f"touch {sentinel}"), Call(eval, "1"), Call(bytearray, 10**12)):
        stream = io.BytesIO()
        torch.save(payload, stream, _use_new_zipfile_serialization=False)
        value = called("torch.storage._load_from_bytes", blob(stream.getvalue()))
        assert refused(entry(value)).startswith("asks for ")
        value = called("torch.storage._load_from_bytes", blob(pickle.dumps(payload, 2)))
        assert refused(entry(value)).startswith("asks for ")
    assert not sentinel.exists()


def stored(numbers):
    stream = io.BytesIO()
    torch.save(torch.tensor(numbers).storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_storage_that_claims_more_than_it_has(refused):
    data = stored([1.0, 2.0])
    old, new = b"cpuq\x03K\x02N", b"cpuq\x03J\xff\xff\xff\x7fN"
    assert data.count(old) == 1
    value = called("torch.storage._load_from_bytes", blob(data.replace(old, new)))
    assert refused(entry(value)).startswith("holds a storage that claims more numbers than it has bytes")


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(("shape", "stride", "offset"), [((1000, 1000), (0, 0), 0), ((2,), (5,), 0), ((2,), (1,), 1)])
def test_a_view_beyond_its_storage(tmp_path, entries, shape, stride, offset):
    from ld3m_plugin.generators.glad.pickles.records import DamagedError
    from ld3m_plugin.generators.glad.pickles.storages import load_storage, rebuild_tensor

    tensor = rebuild_tensor(load_storage(stored([1.0, 2.0])), offset, shape, stride)
    with pytest.raises(DamagedError, match="its storage holds 2 numbers"):
        tensor.load()


class Restored(numpy.ndarray):
    def __reduce__(self):
        return Call(os.system, "true").__reduce__()


def test_arrays_of_objects(refused):
    assert refused(pickle.dumps({"G_ema": numpy.array([{}])})).startswith("holds numpy values of kind O8")
    fields = numpy.zeros(2, [("a", "f4")])
    assert refused(pickle.dumps({"G_ema": fields})).startswith("holds numpy values of kind V4")
    assert refused(pickle.dumps({"G_ema": numpy.zeros(2).view(Restored)})).startswith("asks for posix.system")


def laughs(levels):
    """Each tuple holds the one before it ten times, and the last one is a key: its hash would take 10^levels steps."""
    return b")" + b"".join(b"q%c0(" % n + b"h%c" % n * 10 + b"t" for n in range(levels)) + b"N"


BOMBS = {
    "memo": (b"]r\xff\xff\xff\x7f0N", None),
    "memo in text": (b"]p99999999999\n0N", None),
    "bytes": (b"\x8e" + struct.pack("<Q", 2**40), "is not a readable network file"),
    "text": (b"\x8d" + struct.pack("<Q", 2**40), "is not a readable network file"),
    "frame": (b"\x95" + struct.pack("<Q", 2**60) + b"N", None),
    "number": (b"\x8b" + struct.pack("<i", 2**30), "is not a readable network file"),
    "long number": (b"\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000, "has a number of more than 128 bits"),
    "deep tuples": (b")" + b"\x85" * 500_000, None),
    "a deep key": (b"})" + b"\x85" * 500_000 + b"Ns", "has a key that is a tuple"),
    "marks": (b"(" * 100_000, "nests more than 1000 containers"),
    "steps": (b"N0" * 600_000, "takes more than 1000000 steps"),
    "sets": (b"\x8f" * 1_100_000, "takes more than 1000000 steps"),
    "laughs": (b"}" + laughs(40) + b"s", "has a key that is a tuple"),
    "copies": (
        b"(" + b"N" * 1000 + b"lq\x00" + (named("torch.Size") + b"h\x00\x85R0") * 5000 + b"0N",
        "takes more than 1000000 steps",
    ),
    "text copies": (
        text("a" * 100_000) + b"q\x00" + (named("_codecs.encode") + b"h\x00\x85R0") * 5000 + b"0N",
        "hands on more text than it has",
    ),
    "the same arguments": (
        b"(" + b"N" * 100_000 + b"tq\x00" + (named("torch.nn.X") + b"h\x00R0") * 500 + b"0N",
        "takes more than 1000000 steps",
    ),
    "keys whose hash can be chosen": (b"}(K\x01K\x02tNs", "has a key that is a tuple of other things than texts"),
    "an array": (
        called(
            "numpy.core.numeric._frombuffer", blob(b"a"), called("numpy.dtype", text("u1")), b"J\xff\xff\xff\x7f\x85"
        ),
        "is not a readable network file",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(refused, tmp_path, name):
    value, reason = BOMBS[name]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if reason is None:  # what would burst the standard machine is nothing here
        path = tmp_path / "network.pkl"
        path.write_bytes(entry(value))
        assert "G_ema" in unpickler.read_network_pickle(path)
        refused(entry(value), read_network)
    else:
        assert refused(entry(value)).startswith(reason)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KB
    assert time.process_time() - start < 30


def test_limits_leave_room_for_real_files(golden):
    used = sum(1 for _ in pickletools.genops(golden(64).read_bytes()))
    assert used * 50 < machine.MOST_OPCODES


def test_truncated_anywhere(golden, entries, write, refused):
    """At every 97th byte of a network with one layer, and here and there in a whole one."""
    content = entries()
    modules = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]
    for name in [name for name in modules if name[0] == "L" and name != "L7_16_3"]:
        del modules[name]
    for data, step in ((write(content).read_bytes(), 97), (golden(16).read_bytes(), 9973)):
        for end in range(0, len(data), step):
            assert refused(data[:end]).endswith("it is truncated or damaged, get it again")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(100), b"not a pickle", b"\x80\x09N.", b"<html>404</html>"])
def test_other_files(refused, data):
    assert "is not a readable network file" in refused(data)


@pytest.mark.parametrize(("value", "kind"), [([1], "list"), ((1, 2, 3), "tuple"), ({1: 2}, "dict"), ("a", "str")])
def test_other_pickles(refused, value, kind):
    assert refused(pickle.dumps(value)) == f"holds a {kind} without names: it is not an official network file"


def test_no_file(tmp_path):
    with pytest.raises(PriorError, match=r"is not a file: give the network's \.pkl itself$"):
        unpickler.read_network_pickle(tmp_path / "missing.pkl")


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
harmless = {"open", "object.__getattr__", "marshal.loads", "pickle.find_class", "sys._getframe", "sys._getframemodulename"}
unexpected = {event for event in seen if event not in harmless} - {"object.__setattr__", "object.__delattr__"}
assert set(sys.modules) == modules, set(sys.modules) - modules
print(len(tensors), sorted(unexpected))
"""


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
    content = unpickler.read_network_pickle(golden(64))
    monkeypatch.undo()
    assert content["G_ema"].class_name == "SuperresGenerator"
    assert b"raise RuntimeError('source embedded" in golden(64).read_bytes()

"""Four hundred and more ways to spoil a network file: each ends in one line or in a network, and none runs anything."""

import builtins
import io
import os
import pickletools
import resource
import struct
import sys

import numpy
import pytest

from ld3m_plugin.data.safe_pickle import unpickle
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.limits import DamagedError, RefusedError, checked_opcodes
from ld3m_plugin.generators.glad.pickles.network import read_network
from ld3m_plugin.generators.glad.pickles.stand_ins import Names

EACH = 40
CODES = [ord(opcode.code) for opcode in pickletools.opcodes]


@pytest.fixture(scope="module")
def positions():
    """Start of each opcode of a file, with its name and argument."""
    cache = {}

    def of(path):
        if path not in cache:
            cache[path] = [(start, op.name, argument) for op, argument, start in pickletools.genops(path.read_bytes())]
        return cache[path]

    return of


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def inserted(data, start, piece):
    return data[:start] + piece + data[start:]


def somewhere(rng, opcodes, *names):
    """Start of one of the opcodes (of these names)."""
    starts = [start for start, name, _ in opcodes[2:] if not names or name in names]
    return int(starts[rng.integers(len(starts))])


def swapped_opcodes(data, opcodes, rng, sentinel):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        first, second = somewhere(rng, opcodes), somewhere(rng, opcodes)
        data[first], data[second] = data[second], data[first]
    return bytes(data)


def other_opcodes(data, opcodes, rng, sentinel):
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        data[somewhere(rng, opcodes)] = CODES[rng.integers(len(CODES))]
    return bytes(data)


def os_system(data, opcodes, rng, sentinel):
    module = ("os", "posix", "subprocess")[rng.integers(3)]
    name = "getoutput" if module == "subprocess" else "system"
    call = f"c{module}\n{name}\n".encode() + text(f"touch {sentinel}") + b"\x85R0"
    return inserted(data, somewhere(rng, opcodes), call)


def builtins_eval(data, opcodes, rng, sentinel):
    name = ("eval", "exec")[rng.integers(2)]
    call = text("builtins") + text(name) + b"\x93" + text(f"open({str(sentinel)!r}, 'w')") + b"\x85R0"
    return inserted(data, somewhere(rng, opcodes), call)


def nested_reduce(data, opcodes, rng, sentinel):
    """A function got through functions: getattr(__import__("os"), "system")(...), and with names from the list."""
    outer, inner = [
        (b"cbuiltins\ngetattr\n", b"cbuiltins\n__import__\n" + text("os") + b"\x85R"),
        (b"cbuiltins\ngetattr\n", b"cdill._dill\n_import_module\n" + text("os") + b"\x85R"),
        (b"cdill._dill\n_load_type\n", b"ctorch.nn\nModule\n)R"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ccopyreg\n_reconstructor\n"),
        (b"ccopyreg\n_reconstructor\n", b"cbuiltins\ngetattr\n"),
    ][rng.integers(5)]
    call = outer + inner + text("system") + b"\x86R" + text(f"touch {sentinel}") + b"\x85R0"
    return inserted(data, somewhere(rng, opcodes), call)


def other_names(data, opcodes, rng, sentinel):
    """The names that the file asks for, replaced where it has them."""
    known = (
        "torch_utils.persistence",
        "collections",
        "torch._utils",
        "torch.storage",
        "numpy._core.multiarray",
        "numpy",
    )
    old = known[rng.integers(len(known))].encode()
    new = (b"os", b"builtins", b"posix", b"torch", b"sys", b"importlib")[rng.integers(6)]
    return data.replace(bytes([0x8C, len(old)]) + old, bytes([0x8C, len(new)]) + new, 1)


def huge_memo(data, opcodes, rng, sentinel):
    index = int(rng.integers(2**24, 2**32))
    pieces = (
        b"r" + struct.pack("<I", index),
        b"j" + struct.pack("<I", index),
        f"p{index}{index}\n".encode(),
        b"\x8d" + struct.pack("<Q", index * 2**10),
        b"\x8e" + struct.pack("<Q", index * 2**10),
        b"B" + struct.pack("<I", index),
    )
    return inserted(data, somewhere(rng, opcodes), pieces[rng.integers(len(pieces))])


def truncated(data, opcodes, rng, sentinel):
    return data[: rng.integers(len(data))]


def removed(data, opcodes, rng, sentinel):
    start = rng.integers(2, len(data) - 100)
    return data[:start] + data[start + rng.integers(1, 100) :]


def changed_bytes(data, opcodes, rng, sentinel):
    data = bytearray(data)
    small = [start for start, name, _ in opcodes if name not in ("BINBYTES", "SHORT_BINBYTES")]
    for _ in range(rng.integers(1, 8)):
        data[small[rng.integers(len(small))] + rng.integers(3)] = rng.integers(256)
    return bytes(data)


def storage_bytes(data, opcodes, rng, sentinel):
    """Inside the files in the file."""
    data = bytearray(data)
    start = somewhere(rng, opcodes, "BINBYTES")
    for _ in range(rng.integers(1, 4)):
        data[start + 5 + rng.integers(240)] = rng.integers(256)
    return bytes(data)


def other_values(data, opcodes, rng, sentinel):
    """A number, a flag or an empty container in the place of another value."""
    start = somewhere(rng, opcodes, "BININT1", "NEWTRUE", "NEWFALSE", "NONE")
    piece = (b"K\x00", b"K\xff", b"\x88", b"N", b"]", b"}", b")", b"\x8f", b"J\xff\xff\xff\xff", text("x"))[
        rng.integers(10)
    ]
    length = 2 if data[start : start + 1] == b"K" else 1
    return data[:start] + piece + data[start + length :]


MUTATIONS = (
    swapped_opcodes,
    other_opcodes,
    os_system,
    builtins_eval,
    nested_reduce,
    other_names,
    huge_memo,
    truncated,
    removed,
    changed_bytes,
    storage_bytes,
    other_values,
)
#: Those that must always be refused.
ATTACKS = (os_system, builtins_eval, truncated)


@pytest.mark.slow
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_nothing_runs(golden, positions, tmp_path, monkeypatch, mutate):
    sentinel = tmp_path / "ran"

    def ran(*arguments, **named):
        sentinel.touch()
        raise AssertionError(arguments)

    numpy.random.default_rng(0), b"".decode("raw-unicode-escape")  # and what numpy and pickletools do
    source = golden(64 if mutate is other_values else 16)
    data, opcodes = source.read_bytes(), positions(source)
    read_network(source)  # what torch imports on first use
    modules, memory = set(sys.modules), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(os, "system", ran)
    monkeypatch.setattr(builtins, "eval", ran)
    refused = 0
    for seed in range(EACH):
        rng = numpy.random.default_rng([MUTATIONS.index(mutate), seed])
        path = tmp_path / "network.pkl"
        path.write_bytes(mutate(data, opcodes, rng, sentinel))
        try:
            _, tensors = read_network(path)
        except PriorError as error:
            refused += 1
            message = str(error)
            assert message.startswith(str(path))
            assert "\n" not in message
            assert len(message) < len(str(path)) + 2000
        else:
            assert all(tensor.isfinite().all() for tensor in tensors.values())
        assert not sentinel.exists(), seed
    assert set(sys.modules) == modules
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000  # KB
    assert refused == EACH if mutate in ATTACKS else refused >= 1
    assert sorted(item.name for item in tmp_path.iterdir()) == ["network.pkl"]


def test_there_are_enough_of_them():
    assert EACH * len(MUTATIONS) >= 300


PIECES = [
    *(b"N", b"K\x01", b"I010\n", b"G" + bytes(8), b"]", b"}", b")", b"\x8f", b"(", b"(", b"0", b"1", b"2", b"C\x01a"),
    *(b"q\x00", b"p1\n", b"p01\n", b"r\x02\0\0\0", b"\x94", b"h\x00", b"h\x01", b"g1\n", b"j\x02\0\0\0", b"\x80\x04"),
    *(
        b"a",
        b"e",
        b"s",
        b"u",
        b"\x90",
        b"\x91",
        b"d",
        b"l",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
    ),
    *(b"ctorch.nn\nX\n", b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n", b"cbuiltins\nobject\n", b"\x93"),
    *(text("a"), text("b"), b"S'a'\n", b"Va\n", b"L5L\n", b"F1.5\n", b"\x8a\x01\x05"),
    *(b"\x95" + struct.pack("<Q", size) for size in (0, 2, 7)),
]


def accepted(data):
    try:
        return all(True for _ in checked_opcodes(io.BytesIO(data)))
    except (DamagedError, RefusedError):
        return False
    except ValueError:  # it has no end yet
        return not data.endswith(b".")


def keys_in(value, seen):
    """Keys and members of all containers."""
    if id(value) in seen or not isinstance(value, dict | list | tuple | set | frozenset):
        return
    seen.add(id(value))
    if isinstance(value, dict | set | frozenset):
        yield from value
    for item in value.values() if isinstance(value, dict) else value:
        yield from keys_in(item, seen)


@pytest.mark.slow
def test_the_limits_see_the_stack_that_the_unpickler_has():
    """Of programs of random opcodes: none that the limits let pass finds the stack or the memo in another state."""
    rng, passed = numpy.random.default_rng(0), 0
    for _ in range(6000):
        data = b""
        for piece in rng.choice(len(PIECES), rng.integers(3, 25)):
            data += PIECES[piece] if accepted(data + PIECES[piece]) else b""
        end = next((end for end in (b".", b"0.", b"00.", b"000.", b"t.", b"tt.") if accepted(data + end)), None)
        if end is None:
            continue
        passed += 1
        value, failure = None, ""
        try:
            value = unpickle(io.BytesIO(data + end), Names(len(data)).find)
        except Exception as error:  # most programs do what these objects cannot
            failure = str(error)
        assert not any(word in failure for word in ("underflow", "MARK", "emo value", "pop from")), data + end
        for key in keys_in(value, set()):
            assert not isinstance(key, float | frozenset)
            assert not isinstance(key, tuple) or all(isinstance(part, str | bytes) for part in key)
    assert passed > 2000

"""The fuzzer itself, and a few of its inputs: `scripts/fuzz.py` reads thousands."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

GUARDED = """
import os, subprocess, sys
from pathlib import Path
from fuzzing.guard import CaughtError, Guard
guard, work = Guard(), Path.cwd() / "work"
work.mkdir()
tries = {
    "shell": lambda: os.system("true"),
    "program": lambda: subprocess.run(["true"]),
    "exec": lambda: exec("1"),
    "canary": lambda: __import__("fuzz_canary"),
    "outside": lambda: open("outside", "w"),
    "remove": lambda: os.remove("outside"),
    "inside": lambda: open(work / "inside", "w").close(),
    "read": lambda: open(__file__).close() if "__file__" in globals() else None,
}
for name, act in tries.items():
    try:
        with guard.watching(work):
            act()
    except CaughtError:
        print(name, "caught")
    else:
        print(name, "let pass")
"""

#: Damages that every reader must survive. They are not drawn, so that they stay the same whatever hypothesis draws.
JSON = [
    ("json", 0, [0], "set", None),
    ("json", 0, [1, 0], "set", float("nan")),
    ("json", 0, [2], "set", []),
    ("json", 0, [1], "set", "<deep>"),
    ("json", 0, [0], "set", 10**30),
    ("bytes", 0, "cut", 5000, b"x"),
    ("bytes", 0, "flip", 3000, b"\\xff"),
    ("text", 0, 1, "!!python/object/apply:fuzz_canary.run []"),
    ("file", 0, "empty"),
]
#: What is no plain file, and a file of a terabyte of which no block is on the disk.
FILES = [("file", 0, how) for how in ("fifo", "zero", "folder", "huge")]
PICKLES = [("pickle", 0, which, 2) for which in ("system", "exec", "canary", "bomb", "memo", "deep", "codecs", "none")]
PICTURES = [
    ("picture", 0, which) for which in ("postscript", "huge", "sixteen", "animated", "ztxt", "tiff_bad", "exif_bad")
]
TENSORS = [("tensor", 0, 0, how) for how in ("nan", "empty", "drop", "int", "complex", "rank", "row")]
QUICK = {
    "config": JSON + FILES,
    "class-map": JSON,
    "class-list": JSON + FILES,
    "protocol": JSON,
    "cifar": PICKLES,
    "pictures": PICTURES + FILES,
}
LATER = {
    "distilled": TENSORS + FILES,
    "experts": TENSORS + FILES,
    "latents": TENSORS + FILES,
    "published-set": PICKLES + FILES,
    "run": TENSORS + FILES,
    "ldm": TENSORS + FILES,
    "gan": TENSORS + FILES,
    "stylegan": PICKLES,
    "compvis": PICKLES,
    "buffer": PICKLES,
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Reads inputs in this process; its audit hook acts only while one is read."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from fuzzing.fuzz_worker import Reader

        yield Reader(tmp_path_factory.mktemp("fuzz"))
    finally:
        sys.path.remove(str(SCRIPTS))


def faults(reader, kind, damages):
    outcomes = [(damage, reader.read(kind, [damage])) for damage in damages]
    assert any(outcome.end == "refused" for _, outcome in outcomes)
    return [(damage, outcome) for damage, outcome in outcomes if outcome.is_fault]


@pytest.mark.parametrize("kind", sorted(QUICK))
def test_damaged_inputs_end_in_a_value_or_one_line(reader, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the reader leaves this folder for another
    assert faults(reader, kind, QUICK[kind]) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(LATER))
def test_damaged_tensors_and_pickles_end_in_a_value_or_one_line(reader, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert faults(reader, kind, LATER[kind]) == []


def test_the_guard_catches_what_data_must_not_cause(tmp_path):
    found = subprocess.run(
        [sys.executable, "-B", "-c", GUARDED],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    ends = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    passed = {"inside", "read"}
    assert ends == {
        name: "let pass" if name in passed else "caught"
        for name in ("shell", "program", "exec", "canary", "outside", "remove", *passed)
    }
    assert not (tmp_path / "outside").exists()


@pytest.mark.slow
def test_a_number_stands_for_the_same_input_in_every_process(tmp_path):
    command = [sys.executable, "-B", SCRIPTS / "fuzz.py", "--kind", "class-list", "--number", "3"]
    first, second = (subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False) for _ in "ab")
    shown = [
        [line for line in done.stdout.splitlines() if line.startswith("class-list 3:")] for done in (first, second)
    ]
    assert shown[0] == shown[1] != []

"""Settings of the allocator: what is asked of glibc, and what it does in a process of its own."""

import os
import subprocess
import sys

import pytest

from ld3m_plugin import allocator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of <malloc.h>


@pytest.mark.parametrize(
    ("returned", "kept", "names"),
    [
        (None, True, [M_MMAP_MAX, M_TRIM_THRESHOLD]),
        ("0", True, [M_MMAP_MAX, M_TRIM_THRESHOLD]),
        ("1", False, [M_MMAP_THRESHOLD]),
    ],
)
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(monkeypatch, returned, kept, names):
    asked = []
    monkeypatch.setattr(allocator, "_mallopt", lambda *settings: asked.extend(name for name, _ in settings) or True)
    monkeypatch.delenv("LD3M_RETURN_MEMORY", raising=False)
    if returned is not None:
        monkeypatch.setenv("LD3M_RETURN_MEMORY", returned)
    assert (allocator.keep_freed_memory(), asked) == (kept, names)


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()


PROGRAM = """
import torch
from ld3m_plugin.allocator import keep_freed_memory
kept = keep_freed_memory()
def pages():
    return int(open("/proc/self/statm").read().split()[1])
blocks = [torch.ones(2**18 + 1024 * i) for i in range(64)]  # 1 MiB and more each, 68 MiB in all
full = pages()
del blocks
print(kept, (full - pages()) * 4096 > 60 * 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("returned", "expected"), [("0", "True False"), ("1", "False True")])
def test_pages_of_freed_memory_are_kept_or_returned(returned, expected):
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc's allocator")
    environment = {**os.environ, "LD3M_RETURN_MEMORY": returned}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected

"""The allocator's policies, each in a process of its own: they are the whole process's."""

import os
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize(("returned", "expected"), [("0", "True False"), ("1", "False True")])
def test_freed_memory_is_kept_unless_it_is_asked_back(returned, expected):
    environment = {**os.environ, "LD3M_RETURN_MEMORY": returned}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected

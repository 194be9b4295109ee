"""Named random streams from one seed.

Random streams are passed as arguments everywhere: nothing reads the clock or changes torch's global stream.
A stream is a CPU `torch.Generator`; draw on the CPU and move the numbers, so that a run repeats on every device.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A random stream that depends on `seed` and `name` alone.

    Streams of different names are independent (`numpy.random.SeedSequence` with the name as the spawn key), so that a new
    consumer never shifts the numbers of an old one.

    >>> a, b = stream(0, "latents"), stream(0, "latents")
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
    True
    """
    key = tuple(zlib.crc32(str(part).encode()) for part in name)
    words = numpy.random.SeedSequence(seed, spawn_key=key).generate_state(2, numpy.uint32)
    value = (int(words[0]) << 32 | int(words[1])) & 0x7FFF_FFFF_FFFF_FFFF
    return torch.Generator().manual_seed(value)


def spawn(rng: torch.Generator) -> torch.Generator:
    """A new stream seeded by the next number of `rng`."""
    return torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (), generator=rng)))


@contextmanager
def lent_to_global(rng: torch.Generator, device: torch.device | str = "cpu") -> Iterator[None]:
    """Make code that can only draw from torch's global stream draw from `rng`.

    Inside the block, the global CPU stream continues `rng`; afterwards `rng` has advanced by what was drawn and the global stream
    is restored. Module initialisation and Kornia's parameter generators need this. Dropout draws on the device of its input: on
    CUDA, the global stream of `device` starts from a number drawn from `rng`, and is restored as well.
    """
    kind = torch.device(device)
    with torch.random.fork_rng(devices=[kind] if kind.type == "cuda" else []):
        if kind.type == "cuda":
            index = torch.cuda.current_device() if kind.index is None else kind.index
            torch.cuda.default_generators[index].manual_seed(spawn(rng).initial_seed())
        torch.set_rng_state(rng.get_state())
        try:
            yield
        finally:
            rng.set_state(torch.get_rng_state())

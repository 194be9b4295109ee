from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "data" / "core_dsa.safetensors"


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """Six images 3×20×20, and for each operation its parameters and the output of the published code."""
    return load_file(GOLDEN)


@pytest.fixture(autouse=True)
def seeded():
    """Seed the global stream, which Kornia's classes draw from, and restore it after each test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture
def global_stream_untouched(seeded):
    """Fail the test if it moves torch's global stream."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "data" / "core_dsa.safetensors"


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    """Six images 3×20×20, and for each operation the numbers it drew and what the published code made of them."""
    return load_file(GOLDEN)


@pytest.fixture(autouse=True)
def seeded():
    """Kornia's classes draw from the global stream; each test starts it at the same place and leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.fixture
def global_stream_untouched(seeded):
    """The test fails if it moves torch's global stream."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)

"""Small networks, the published values, and priors on disk."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.generators.glad.gan_folder import save_network
from ld3m_plugin.generators.glad.pickles.network import read_network
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.stylegan_shape import make_shape
from ld3m_plugin.priors.prior_json import PriorClass, PriorFacts
from ld3m_plugin.randomness import lent_to_global, stream

DATA = Path(__file__).parents[2] / "data"
STAGES = {"stylegan_xl_16": (16,), "stylegan_xl_64": (16, 32, 64)}
CLASSES = ("class 0", "class 1", "class 2")


def golden_shape(stem):
    """The shape of a golden network by the project's own rules."""
    return make_shape(
        resolutions=STAGES[stem],
        stem_layers=7,
        head_layers=4,
        classes=12,
        z_dim=16,
        w_dim=24,
        embed_dim=20,
        channel_base=512,
        channel_max=32,
        margin=4,
    )


class Golden:
    """A published network and its values; `tensors` are float32, `network` is frozen."""

    _CUT = 10_000, 97  # of tensors with more numbers, the float64 file holds every 97th one

    def __init__(self, stem):
        self.stem, self.data = stem, DATA
        self.description = json.loads((DATA / f"{stem}.json").read_text())
        self.tensors = load_file(DATA / f"{stem}.safetensors")
        self._exact = load_file(DATA / f"{stem}_float64.safetensors")
        self.shape_by_rules = golden_shape(stem)
        self.shape, self.state = read_network(DATA / f"{stem}.pkl")
        self.network = GeneratorNetwork(self.shape)
        self.network.load_state_dict(self.state)
        self.network.freeze()

    def double(self):
        """A frozen copy in float64, of the unfrozen weights."""
        network = GeneratorNetwork(self.shape)
        network.load_state_dict(self.state)
        return network.double().freeze()

    def double_tensors(self):
        """The inputs, and the outputs that are inputs again, in float64."""
        return {name: t.double() if t.is_floating_point() else t for name, t in self.tensors.items()}

    def error(self, name, found):
        """||found - exact|| / ||exact||, with the published code's value in float64."""
        most, step = self._CUT
        found, exact = found.detach().double(), self._exact[name]
        found = found.flatten()[::step] if found.numel() > most else found
        return float((found - exact).norm() / exact.norm())


@pytest.fixture(params=sorted(STAGES), scope="module")
def golden(request):
    return Golden(request.param)


def tiny_shape(classes=3, channels=1, size=16, **more):
    settings = {
        "stem_layers": 4,
        "channel_base": 64,
        "channel_max": 6,
        "margin": 2,
        "z_dim": 5,
        "w_dim": 7,
        "embed_dim": 4,
    }
    return make_shape(
        resolutions=(size,), head_layers=0, classes=classes, image_channels=channels, **{**settings, **more}
    )


def tiny_network(seed=0, **shape):
    with lent_to_global(stream(seed, "tiny network")):
        network = GeneratorNetwork(tiny_shape(**shape))
        network.mapping.w_avg.copy_(torch.randn(network.mapping.w_avg.shape) / 10)
        return network


@pytest.fixture(autouse=True)
def _seeded():
    """Tests that draw without naming a stream draw the same numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def network():
    """`network(seed=0, classes=3, ...)`: a tiny one."""
    return tiny_network


@pytest.fixture
def prior(tmp_path):
    """`prior(classes=3, half=False, ...)`: a folder with a network of random weights."""

    def make(name="prior", half=False, names=CLASSES, **shape):
        network = tiny_network(**shape)
        known = tuple(PriorClass(n) for n in names) if network.shape.classes else ()
        facts = PriorFacts(known, None, "random weights", "CC0")
        save_network(tmp_path / name, network.shape, network.state_dict(), facts, half=half)
        return tmp_path / name

    return make

"""Comparisons in a second: two generators, an objective, networks and data of a third party, and a folder to compare in."""

import importlib
from dataclasses import dataclass

import pytest

from ld3m_plugin.comparison.comparison_table import Comparison
from ld3m_plugin.comparison.runner import compare
from ld3m_plugin.config import resolve
from ld3m_plugin.registry import use_registry
from ld3m_plugin.runs import run
from ld3m_plugin.testing import tiny_task

PIECES = """
import signal

import torch
from pydantic import Field

from ld3m_plugin import DifferentiableObjective, Generator, Latents, Network, hookimpl
from ld3m_plugin.contracts import Options
from ld3m_plugin.errors import HostError
from ld3m_plugin.testing import tiny_task


class Options(Options):
    factor: float = Field(2.0, gt=0, description="latents are multiplied with it")


class Scaled(Generator):
    Options = Options
    end, end_at = None, None  # how, and in which step, a run of this generator ends
    prior = "first"
    prepared = 0

    def prepare(self, task):
        type(self).prepared += 1
        if self.options.factor > 100:
            raise HostError("factor is too large: lower it")

    def initial_latents(self, task, labels, rng):
        shape = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({"w": torch.randn(shape, generator=rng)}, ("w",))

    def render(self, latents):
        return latents["w"] * self.options.factor

    def on_step(self, latents, step, rng):
        if step == type(self).end_at:
            if self.end == "sigterm":
                signal.raise_signal(signal.SIGTERM)
            raise KeyboardInterrupt if self.end == "ctrl-c" else HostError("the disk is full: make room")
        return latents

    def learning_rates(self):
        return {"w": 0.1}

    def provenance(self):
        return {"prior_sha256": self.prior}


class Other(Scaled):
    end, end_at = None, None


class Level(DifferentiableObjective):
    experts = "first"

    def provenance(self):
        return {"experts_sha256": self.experts}

    class Options(Options):
        level: float = Field(0.0, description="what every pixel should be")

    def loss(self, images, labels, step):
        return (images - self.options.level).square().mean() + 0 * torch.rand(1, generator=self.rng).sum()


class Linear(Network):
    def __init__(self, channels, image_size, num_classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images):
        return self.last(images.flatten(1))


class Deeper(Linear):
    pass


@hookimpl
def register_generators(register):
    register("scaled", Scaled)
    register("other", Other)


@hookimpl
def register_objectives(register):
    register("level", Level)


@hookimpl
def register_networks(register):
    register("Linear", Linear)
    register("Deeper", Deeper)


@hookimpl
def register_datasets(register):
    register("tiny", lambda argument, options: tiny_task(image_size=8, train=int(argument or 12), test=20))
"""


class Notes(run.Reporter):
    """Remembers what was done."""

    def __init__(self):
        self.steps, self.trained, self.said = [], [], []

    def step(self, step):
        self.steps.append((step.state.config.generator.name, step.iteration))

    def evaluating(self, what):
        self.trained.append(what)

    def say(self, message):
        self.said.append(message)


@dataclass
class Compared:
    """A comparison, and what was done for it."""

    comparison: Comparison
    notes: Notes

    @property
    def table(self):
        return self.comparison.table

    @property
    def columns(self):
        return list(dict.fromkeys(row.images for row in self.table.rows))

    def accuracies(self, images):
        return [(row.network, row.accuracies) for row in self.table.rows if row.images == images]

    def trained_on(self, images):
        return [what for what in self.notes.trained if f"on {images} images" in what]


@pytest.fixture(scope="session")
def task():
    return tiny_task(image_size=8, test=20)


@pytest.fixture
def pieces(site):
    """The module of the backends above, installed."""
    site.add("pieces", {"pieces": PIECES})
    return importlib.import_module("pieces")


@pytest.fixture
def registry(pieces, load):
    with use_registry(load()) as registry:
        yield registry


@pytest.fixture
def plain(two_epochs):
    """Settings that all compared runs share."""
    evaluation = {"protocol": two_epochs, "networks": ["Linear", "Deeper"], "repeats": 2}
    return [("data.name", "tiny"), ("objective.name", "level"), ("steps", 4), ("evaluation", evaluation)]


@pytest.fixture
def configs(plain):
    def configs(*names, **more):
        return {name: resolve(settings=[*plain, *more.items(), ("generator.name", name)]) for name in names}

    return configs


@pytest.fixture
def compared(tmp_path, registry, task):
    """Compares in a folder below `tmp_path`."""

    def compared(configs, folder="out", task=task):
        notes = Notes()
        return Compared(compare(configs, tmp_path / folder, task=task, reporter=notes), notes)

    return compared


@pytest.fixture
def command(pieces, two_epochs):
    """Arguments of `ld3m compare` for a comparison of a second; the generators are to be added."""
    return [
        *("compare", "--data", "tiny", "-o", "level", "--steps", "4"),
        *("--protocol", two_epochs, "--networks", "Linear", "--repeats", "1"),
    ]

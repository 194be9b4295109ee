"""Grids in a second: two generators, an objective, networks and data of a third party, and rows made in this process."""

import importlib
import inspect
from pathlib import Path

import pytest

from ld3m_plugin.cli.compare import compare_command
from ld3m_plugin.comparison.grid import read_grid
from ld3m_plugin.comparison.grid_runner import GridReporter, run_grid
from ld3m_plugin.comparison.points import points
from ld3m_plugin.comparison.row_process import run_row
from ld3m_plugin.errors import UsageError
from ld3m_plugin.launchers.launcher import Launcher
from ld3m_plugin.registry import use_registry
from ld3m_plugin.runs.reporter import Reporter

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


class Half(Scaled):
    lines = 0.5

    def initial_latents(self, task, labels, rng):
        shape = (len(labels), task.channels, int(task.image_size * self.lines), task.image_size)
        return Latents({"w": torch.randn(shape, generator=rng)}, ("w",))

    def render(self, latents):
        return latents["w"].repeat_interleave(2, 2)


class Double(Half):
    lines = 2


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
    register("half", Half)
    register("double", Double)


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
    register("other", lambda argument, options: tiny_task(image_size=8, train=12, test=20, seed=1))
"""


class Here(Launcher):
    """Makes rows in this process, one at each poll; tests of processes have the real launcher."""

    def start(self, jobs, folder):
        self._left, self._states = list(jobs), {job.id: "waiting" for job in jobs}

    def poll(self):
        if self._left:
            job = self._left.pop(0)
            *_, folder, row = job.command
            run_row(Path(folder), row, Reporter())
            self._states[job.id] = "ended"
        return dict(self._states)

    def stop(self):
        self._left = []


class Said(GridReporter):
    """Remembers what a grid told."""

    def __init__(self):
        self.lines, self.warned, self.counts = [], [], []

    def say(self, message):
        self.lines.append(message)

    def warn(self, message):
        self.warned.append(message)

    def changed(self, manifest, counts, left_seconds):
        self.counts.append(counts)


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
    """Settings that all rows share."""
    evaluation = {"protocol": two_epochs, "networks": ["Linear", "Deeper"], "repeats": 2}
    return {"data": {"name": "tiny"}, "objective": {"name": "level"}, "steps": 4, "evaluation": evaluation}


@pytest.fixture
def grid(plain, registry):
    """Composes a grid of tiny rows from fields; `config` is put over the plain settings."""

    def grid(*generators, config=None, **fields):
        fields = {"generators": generators, "controls": [], "baseline": None, **fields}
        return read_grid(settings={**fields, "config": {**plain, **(config or {})}})

    return grid


@pytest.fixture
def made(tmp_path, registry):
    """Makes a grid in a folder below `tmp_path`; returns the result and what it told."""

    def made(grid, folder="out", **more):
        said = Said()
        return run_grid(grid, tmp_path / folder, Here(), reporter=said, **more), said

    return made


@pytest.fixture
def stopped(tmp_path, registry):
    """Makes a grid whose launcher is stopped by Ctrl-C after one row, and again `while_stopping`; returns what it told."""

    def stopped(grid, while_stopping=False):
        class Stopped(Here):
            def poll(self):
                if "ended" in self._states.values():
                    raise KeyboardInterrupt
                return super().poll()

            def stop(self):
                again, self._left = while_stopping and self._left, []
                if again:
                    raise KeyboardInterrupt

        said = Said()
        with pytest.raises(KeyboardInterrupt):
            run_grid(grid, tmp_path / "out", Stopped(), reporter=said)
        return said.lines

    return stopped


@pytest.fixture
def arguments():
    """Make what `ld3m compare` hands to `grid_settings`: its defaults but for those given."""
    defaults = {name: each.default for name, each in inspect.signature(compare_command).parameters.items()}
    return lambda **given: {**defaults, **given}


@pytest.fixture
def refusal(plain, registry):
    """Make the one line that refuses a grid of these fields."""

    def refuse(config=None, **fields):
        settings = {"generators": ["scaled"], "controls": [], **fields, "config": {**plain, **(config or {})}}
        with pytest.raises(UsageError) as raised:
            points(read_grid(settings=settings))
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return refuse

"""A kind of prior that a third party brings, as a plugin of a site."""

import pytest

# A prior of this kind is the mean pixel of random batches, one batch a step; a published one is a text file.
MEANS = """
import json
import os
import signal

import torch
from pydantic import Field

from ld3m_plugin import DataOptions, PriorKind, hookimpl
from ld3m_plugin.contracts import Options
from ld3m_plugin.errors import PriorError
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import write_json
from ld3m_plugin.testing import tiny_task


class Training(Options):
    steps: int = Field(3, ge=1, description="batches of 4 images")
    end: str = Field("finished", description="how the training ends")


class Conversion(Options):
    scale: float = Field(1.0, gt=0, description="factor on every mean")


class MeansKind(PriorKind):
    '''Mean pixels.

    Used in tests.
    '''

    TrainingOptions = Training
    ConversionOptions = Conversion

    def recognises(self, path):
        if path.is_dir():
            return (path / "means.json").is_file()
        return path.suffix == ".means"

    def train(self, task, out, options, *, seed, reporter):
        assert sum(task.test.counts()) > 0
        out.mkdir(exist_ok=True)
        state = out / "state.json"
        means = json.loads(state.read_text()) if state.exists() else []
        reporter.phase("means", options.steps, len(means))
        for step in range(len(means), options.steps):
            rng = stream(seed, f"step {step}")
            means.append(float(task.real_images(step % task.num_classes, 4, rng).mean()))
            write_json(state, means)
            reporter.step(step + 1, {"mean": means[-1]})
            if step == 1 and options.end != "finished":
                self.stop(options.end, out)
        reporter.say(f"device {task.device}")
        write_json(out / "means.json", {"means": means, "seed": seed})
        state.unlink()

    def stop(self, end, out):
        if end == "ctrl-c":
            raise KeyboardInterrupt
        if end == "sigterm":
            signal.raise_signal(signal.SIGTERM)
        if end == "killed":
            os._exit(9)
        if end == "memory":
            raise torch.OutOfMemoryError("tried to allocate 9 GiB\\nand so on")
        raise PriorError(f"{out} went wrong: try again")

    def convert(self, source, out, options):
        header, *numbers = source.read_text().split()
        write_json(out / "means.json", {"means": [options.scale * float(n) for n in numbers if n != "?"], "seed": None})
        if header != "MEANS" or "?" in numbers:
            raise PriorError(f"{source} is damaged: fetch it again")

    def describe(self, path):
        try:
            content = json.loads((path / "means.json").read_text())
        except OSError as error:
            raise PriorError(f"{path} has no means.json: it is no prior of means") from error
        return {"steps": str(len(content["means"])), "all means": "\\n".join(map(str, content["means"]))}


@hookimpl
def register_priors(register):
    register("means", "family:MeansKind", summary="mean pixels")

@hookimpl
def register_datasets(register):
    def tiny(argument, options):
        open("data was read", "w").close()
        return tiny_task(image_size=options.image_size or 8)
    register("tiny", tiny)
"""
GREEDY = """
from ld3m_plugin import hookimpl
from family import MeansKind

class Greedy(MeansKind):
    def recognises(self, path):
        return True

class Raises(MeansKind):
    def recognises(self, path):
        raise ValueError("not even\\n a path")

@hookimpl
def register_priors(register):
    register("greedy", Greedy)
"""


@pytest.fixture
def family(site):
    return site.add("ld3m-family", {"family": MEANS})


@pytest.fixture
def published(tmp_path):
    """A file in the format of its publisher."""
    path = tmp_path / "published.means"
    path.write_text("MEANS 0.5 2")
    return path


@pytest.fixture
def greedy():
    """Source of a plugin whose kind recognises every path."""
    return GREEDY

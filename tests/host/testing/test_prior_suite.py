"""`check_prior`: a sound kind of prior passes, and each clause catches one that breaks it."""

import json

import pytest
import torch

from ld3m_plugin.contracts import Options, PriorKind
from ld3m_plugin.errors import PriorError
from ld3m_plugin.testing import check_prior

FILE = "sound-prior.json"


class Training(Options):
    steps: int = 2


class Sound(PriorKind):
    """Counts its steps in a file."""

    TrainingOptions = Training

    def recognises(self, path):
        return (path / FILE).is_file() if path.is_dir() else path.suffix == ".sound"

    def train(self, task, out, options, *, seed, reporter):
        out.mkdir(exist_ok=True)
        done = json.loads((out / FILE).read_text())["steps"] if (out / FILE).exists() else 0
        reporter.phase("counting", options.steps, done)
        for step in range(done + 1, options.steps + 1):
            (out / FILE).write_text(json.dumps({"steps": step}))
            reporter.step(step, {"loss": 0.0})

    def convert(self, source, out, options):
        (out / FILE).write_text(source.read_text())

    def describe(self, path):
        try:
            return {"steps": str(json.loads((path / FILE).read_text())["steps"])}
        except (OSError, ValueError) as error:
            raise PriorError(f"{path} is not complete") from error


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "published.sound"
    path.write_text('{"steps": 7}')
    return path


def test_a_sound_kind_passes(source):
    check_prior(Sound, training={"steps": 3}, source=source)


class KnowsAll(Sound):
    def recognises(self, path):
        return True


class FindsAll(Sound):
    def find(self, name):
        return "here"


class Silent(Sound):
    def train(self, task, out, options, *, seed, reporter):
        out.mkdir()
        (out / FILE).write_text('{"steps": 1}')


class StepsFirst(Sound):
    def train(self, task, out, options, *, seed, reporter):
        reporter.step(1, {})


class CannotGoOn(Sound):
    def train(self, task, out, options, *, seed, reporter):
        assert not out.exists(), "cannot go on"
        super().train(task, out, options, seed=seed, reporter=reporter)


class Numbers(Sound):
    def describe(self, path):
        return {"steps": 1}


class ChangesTheSource(Sound):
    def convert(self, source, out, options):
        super().convert(source, out, options)
        source.write_text("gone")


class Draws(Sound):
    def describe(self, path):
        torch.rand(1)
        return super().describe(path)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (KnowsAll, "empty folder"),
        (FindsAll, r"find\(\)"),
        (Silent, "phases"),
        (StepsFirst, "begin a phase"),
        (CannotGoOn, "cannot go on"),
        (Numbers, "texts by title"),
        (ChangesTheSource, "change its source"),
        (Draws, "global random stream"),
        (dict, "dict is not"),
    ],
)
def test_each_clause_catches(broken, clause, source):
    with pytest.raises(AssertionError, match=clause):
        check_prior(broken, training={}, source=source)

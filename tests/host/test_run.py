"""A run folder: repeatable bytes, what an interrupt leaves, and the best evaluation kept apart from the final one."""

import json
from dataclasses import replace

import pytest
import torch

from ld3m_plugin import run
from ld3m_plugin.artefact import DistilledSet
from ld3m_plugin.config import resolve
from ld3m_plugin.contracts import DifferentiableObjective, Generator, Latents
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.plugins import Backend, Owner, build_registry
from ld3m_plugin.testing import tiny_task

DM = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}


class Counts(DifferentiableObjective):
    """Has a state that `match` changes before it can be interrupted."""

    interrupt_at = None

    def prepare(self, task, labels, rng):
        super().prepare(task, labels, rng)
        self.count = torch.zeros(1)

    def loss(self, images, labels, step):
        self.count += 1
        torch.rand(1, generator=self.rng)
        if step == type(self).interrupt_at:
            raise KeyboardInterrupt
        return (images * (self.count + torch.rand(1, generator=self.rng))).square().mean()

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.count = state["count"].clone()


class InterruptedAfterTheUpdate(Generator):
    """Has moved its latents when `on_step` is interrupted."""

    interrupt_at = None

    def initial_latents(self, task, labels, rng):
        return Latents({"x": torch.randn(len(labels), 1, 16, 16, generator=rng)}, ("x",))

    def render(self, latents):
        return latents["x"]

    def on_step(self, latents, step, rng):
        if step == type(self).interrupt_at:
            raise KeyboardInterrupt
        return latents.replace(x=latents["x"] + torch.rand(1, generator=rng))

    def learning_rates(self, objective):
        return {"x": 0.1}


@pytest.fixture
def registry():
    registry = build_registry()
    here = Owner("tests", "tests", "0")
    registry.add(Backend("objective", "counts", Counts, "", here))
    registry.add(Backend("generator", "interrupted", InterruptedAfterTheUpdate, "", here))
    yield registry
    Counts.interrupt_at = InterruptedAfterTheUpdate.interrupt_at = None


def config(*settings, **dm):
    plain = [("steps", 5), ("evaluation.final", False), ("checkpoint_every", 0)]
    options = [] if dm.get("plain") else [("objective.options", DM)]
    return resolve(settings=[*plain, *options, *settings])


def image_bytes(folder):
    return (folder / "distilled" / "images.safetensors").read_bytes()


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        run.start(config(("seed", seed)), tmp_path / name, task=tiny_task())
    assert image_bytes(tmp_path / "first") == image_bytes(tmp_path / "second")
    assert image_bytes(tmp_path / "first") != image_bytes(tmp_path / "other")


@pytest.mark.parametrize("part", [Counts, InterruptedAfterTheUpdate])
def test_a_step_that_was_interrupted_leaves_no_trace(part, tmp_path, registry):
    settings = config(("generator.name", "interrupted"), ("objective.name", "counts"), plain=True)
    run.start(settings, tmp_path / "straight", task=tiny_task(), registry=registry)
    part.interrupt_at = 3
    with pytest.raises(KeyboardInterrupt):
        run.start(settings, tmp_path / "stopped", task=tiny_task(), registry=registry)
    part.interrupt_at = None
    run.resume(tmp_path / "stopped", task=tiny_task(), registry=registry)
    assert image_bytes(tmp_path / "straight") == image_bytes(tmp_path / "stopped")
    records = [json.loads(line) for line in (tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]


@pytest.fixture
def evaluations(monkeypatch):
    """Real evaluations of one epoch, whose accuracies are then replaced so that step 2 is the best."""
    scores = {1: 40.0, 2: 90.0, 3: 50.0, 4: 60.0, 5: 70.0}
    seen = []

    def scored(distilled, task, **settings):
        step = distilled.metadata["steps"]
        seen.append((step, settings["random_real"]))
        real = evaluate(distilled, task, **settings)
        rows = tuple(replace(row, accuracies=(scores[step],) * row.n) for row in real.rows)
        return replace(real, rows=rows)

    monkeypatch.setattr(run, "evaluate", scored)
    return seen


def evaluated(protocol, every):
    return config(
        ("evaluation", {"final": True, "every": every, "repeats": 1, "networks": ["ConvNet"], "protocol": protocol})
    )


def test_final_is_reported_and_the_best_is_kept_apart(tmp_path, evaluations, two_epochs):
    task = tiny_task(image_size=32)
    result = run.start(evaluated(two_epochs, 1), tmp_path / "run", task=task)
    assert evaluations == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    assert result.evaluation.mean("distilled") == 70
    results = DistilledSet.load(tmp_path / "run").metadata["results"]
    assert (results["final"]["step"], results["final"]["rows"][0]["mean"]) == (5, 70)
    best = results["best_over_test_set_evaluations"]
    assert (best["step"], best["rows"][0]["mean"]) == (2, 90)


def test_best_survives_a_stop(tmp_path, evaluations, two_epochs):
    class StopsAtFour(run.Reporter):
        def step(self, step):
            if step.iteration == 4:
                raise KeyboardInterrupt

    task = tiny_task(image_size=32)
    with pytest.raises(KeyboardInterrupt):
        run.start(evaluated(two_epochs, 1), tmp_path / "run", task=task, reporter=StopsAtFour())
    run.resume(tmp_path / "run", task=task)
    assert [step for step, _ in evaluations] == [1, 2, 3, 4, 5]
    assert DistilledSet.load(tmp_path / "run").metadata["results"]["best_over_test_set_evaluations"]["step"] == 2


def test_what_is_evaluated_is_what_is_on_disk(tmp_path, monkeypatch, two_epochs):
    given = []

    def remembers(distilled, task, **settings):
        given.append(distilled.images.clone())
        return evaluate(distilled, task, **settings)

    monkeypatch.setattr(run, "evaluate", remembers)
    run.start(evaluated(two_epochs, 0), tmp_path / "run", task=tiny_task(image_size=32))
    assert torch.equal(given[0], DistilledSet.load(tmp_path / "run").images)


def test_a_mistake_before_the_first_step_leaves_the_folder_free(tmp_path):
    wrong = config(("objective.options", {**DM, "batch_real": 1000}))
    with pytest.raises(Exception, match="1000 are asked for"):
        run.start(wrong, tmp_path / "run", task=tiny_task())
    run.start(config(), tmp_path / "run", task=tiny_task())
    assert image_bytes(tmp_path / "run")

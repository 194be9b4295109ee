"""A run folder: repeatable bytes, what an interrupt leaves, and the best evaluation kept apart from the final one."""

import json
from dataclasses import replace

import numpy
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.config import digest, resolve
from ld3m_plugin.contracts import DifferentiableObjective, Generator, Latents
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError, DataError, UsageError
from ld3m_plugin.evaluation import evaluate, get_protocol
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.runs import run
from ld3m_plugin.runs.folder import read_config
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

    def learning_rates(self):
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
    plain = [("generator.name", "pixel"), ("steps", 5), ("evaluation.final", False), ("checkpoint_every", 0)]
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


@pytest.mark.slow
def test_final_is_reported_and_the_best_is_kept_apart(tmp_path, evaluations, two_epochs):
    task = tiny_task(image_size=32)
    result = run.start(evaluated(two_epochs, 1), tmp_path / "run", task=task)
    assert evaluations == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    assert result.evaluation.mean("distilled") == 70
    results = DistilledSet.load(tmp_path / "run").metadata["results"]
    assert (results["final"]["step"], results["final"]["rows"][0]["mean"]) == (5, 70)
    best = results["best_over_test_set_evaluations"]
    assert (best["step"], best["rows"][0]["mean"]) == (2, 90)


@pytest.mark.slow
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
    wrong = config(("images_per_class", 1000))
    with pytest.raises(DataError, match="1000"):
        run.start(wrong, tmp_path / "run", task=tiny_task())
    run.start(config(), tmp_path / "run", task=tiny_task())
    assert image_bytes(tmp_path / "run")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def stopped(folder, **settings):
    class StopsAtThree(run.Reporter):
        def step(self, step):
            if step.iteration == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.start(config(), folder, task=tiny_task(**settings), reporter=StopsAtThree())


@pytest.mark.parametrize(
    ("old", "new"),
    [("images_per_class: 1", "images_per_class: 2"), ("name: adam", "name: sgd"), ("seed: 0", "seed: 1")],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, old, new):
    stopped(tmp_path / "run")
    edit(tmp_path / "run" / "config.yaml", old, new)
    with pytest.raises(ArtefactError, match=r"config\.yaml"):
        run.resume(tmp_path / "run", task=tiny_task())


def test_more_steps_are_not_other_settings(tmp_path):
    stopped(tmp_path / "run")
    edit(tmp_path / "run" / "config.yaml", "steps: 5", "steps: 7")
    assert run.resume(tmp_path / "run", task=tiny_task()).distilled.metadata["steps"] == 7


def test_other_data_is_refused(tmp_path):
    stopped(tmp_path / "run")
    with pytest.raises(ArtefactError, match="random images for tests"):
        run.resume(tmp_path / "run", task=tiny_task(train=13))


def test_data_that_has_moved_is_the_same_data(tmp_path):
    stopped(tmp_path / "run")
    run.resume(tmp_path / "run", task=replace(tiny_task(), source="another folder"))


def test_running_out_of_memory_is_not_taken_for_a_bad_checkpoint(tmp_path, monkeypatch):
    stopped(tmp_path / "run")

    def full(self, state):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Distillation, "load_state_dict", full)
    with pytest.raises(torch.OutOfMemoryError):
        run.resume(tmp_path / "run", task=tiny_task())


def test_a_network_that_is_not_there_is_said_before_a_run_goes_on(tmp_path):
    stopped(tmp_path / "run")
    edit(tmp_path / "run" / "config.yaml", "final: false", "final: true")
    edit(tmp_path / "run" / "config.yaml", "- AlexNet", "- AlxNet")
    with pytest.raises(UsageError, match=r"'AlxNet'.*'AlexNet'"):
        run.resume(tmp_path / "run", task=tiny_task())


def test_records_that_are_not_ours_do_not_stop_a_run_from_going_on(tmp_path):
    stopped(tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('3\nnot json\n[]\n{"step": "x"}\n')
    (tmp_path / "run" / "best_over_test_set_evaluations.json").write_text("[")
    run.resume(tmp_path / "run", task=tiny_task())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]


def test_what_would_stop_the_evaluation_stops_the_run_before_its_first_step(tmp_path, two_epochs):
    evaluation = {"final": True, "networks": ["ConvNet"], "protocol": two_epochs}
    chosen = config(("evaluation", evaluation), ("generator.options.init", "noise"), ("images_per_class", 13))
    with pytest.raises(DataError, match=" 13"):
        run.start(chosen, tmp_path / "run", task=tiny_task(image_size=32))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_random_real_images_a_class_needs_no_more_than_the_run_does(tmp_path, two_epochs):
    evaluation = {"final": True, "networks": ["ConvNet"], "protocol": two_epochs, "repeats": 1, "random_real": False}
    chosen = config(
        ("evaluation", {**evaluation, "test_per_class": 2}),
        ("generator.options.init", "noise"),
        ("images_per_class", 13),
    )
    task = tiny_task(image_size=32)
    result = run.start(chosen, tmp_path / "run", task=task)
    assert [row.images for row in result.evaluation.rows] == ["distilled"]
    assert (result.evaluation.test_images, sum(task.test.counts())) == (6, 12)
    recorded = DistilledSet.load(tmp_path / "run").metadata
    assert recorded["results"]["final"]["test_images"] == 6
    assert recorded["config"]["evaluation"]["test_per_class"] == 2


def test_a_mistake_removes_only_what_the_run_wrote(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(DataError, match="1000"):
        run.start(config(("images_per_class", 1000)), tmp_path / "link", task=tiny_task())
    assert (tmp_path / "link").is_dir()
    assert list(real.iterdir()) == []


def test_numbers_of_any_library_are_recorded(tmp_path, registry):
    class Metrics(Counts):
        def loss(self, images, labels, step):
            return super().loss(images, labels, step), {"tensor": torch.tensor(1.5), "numpy": numpy.float32(2.5)}

    registry.add(Backend("objective", "metrics", Metrics, "", Owner("tests", "tests", "0")))
    run.start(config(("objective.name", "metrics"), plain=True), tmp_path / "run", task=tiny_task(), registry=registry)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert (first["tensor"], first["numpy"]) == (1.5, 2.5)


@pytest.mark.slow
def test_a_run_of_version_0_1_goes_on_without_options_that_its_data_never_used(tmp_path, ld3m):
    distil = ("distill", "--data", "fashion-mnist:embedded", "-g", "pixel", "-O", "batch_real=4", "-O", "dsa=none")
    small = ("-O", "network_settings={width: 8}", "--no-evaluate")
    assert ld3m(*distil, *small, "--steps", "2", "--out", "whole").code == 0
    assert ld3m(*distil, *small, "--steps", "1", "--out", "old").code == 0
    # As version 0.1 recorded it, and one more step to make.
    path = tmp_path / "old" / "config.yaml"
    recorded = yaml.safe_load(path.read_text())
    recorded["data"]["options"] |= {"skip_unreadable": False, "test_fraction": 0.3, "split_seed": 0}
    path.write_text(yaml.safe_dump({**recorded, "steps": 2}))
    checkpoint = tmp_path / "old" / "checkpoints" / "step-000001" / "state.safetensors"
    save_file(load_file(checkpoint), checkpoint, {"settings": digest(read_config(tmp_path / "old"))})
    resumed = ld3m("distill", "--resume", "old")
    assert resumed.code == 0, resumed.err
    images = [DistilledSet.load(tmp_path / name).images for name in ("whole", "old")]
    assert torch.equal(*images)
    assert (
        ld3m(
            "evaluate", "old", "--networks", "ConvNet", "--repeats", "1", "--test-per-class", "1", "--no-random-real"
        ).code
        == 0
    )
    # A file may be written by hand: what its data set would ignore is refused, what does nothing is not.
    refused = ld3m("distill", "--config", path, "--dry-run")
    assert (refused.code, "test_fraction" in refused.error) == (2, True)
    recorded["data"]["options"]["test_fraction"] = 0.2
    path.write_text(yaml.safe_dump(recorded))
    assert ld3m("distill", "--config", path, "--dry-run").code == 0


RECIPE = {"networks": ["ConvNet"], "repeats": 1, "epochs": 1, "batch_size": 8, "learning_rate": 0.01, "dsa": "none"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"dsa": "colour_flip"}, "colour"),
        ({"networks": []}, "networks"),
        ({"networks": ["ConvNett"]}, "ConvNett"),
        ({"learning_rates": {"ConvNet": -1}}, "learning_rates"),
        ({"network_settings": {"ConvNet": {"widht": 8}}}, "widht"),
        ({"name": "quick"}, "quick"),
        ({"epochz": 3}, "epochz"),
    ],
    ids=str,
)
def test_a_protocol_that_cannot_be_used_stops_the_run_before_it_starts(tmp_path, ld3m, values, named):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**RECIPE, **values}))
    outcome = ld3m(
        "distill", "--data", "fashion-mnist:embedded", "-g", "pixel", "--protocol", "mine.yaml", "--out", "run"
    )
    assert outcome.code == 2
    assert named in outcome.error
    assert not (tmp_path / "run").exists()


def test_two_recipes_are_not_mixed(tmp_path):
    for name, more in (("a", {"ema": 0.9}), ("b", {})):
        recipe = {**RECIPE, "name": name, "summary": "", "source": "here", **more}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"evaluation": {"protocol": recipe}}))
    protocol = get_protocol(resolve([tmp_path / "a.yaml", tmp_path / "b.yaml"]).evaluation.protocol)
    assert (protocol.name, protocol.ema) == ("b", None)

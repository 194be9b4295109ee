"""Run folders of `ld3m distill`: runs that fail or are stopped keep what they have, and go on bit for bit."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.config import resolve
from ld3m_plugin.contracts import DifferentiableObjective, Network
from ld3m_plugin.registry import Backend, Owner
from ld3m_plugin.runs import run
from ld3m_plugin.runs.checkpoints import checkpoint_folders
from ld3m_plugin.testing import tiny_task


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps_of(folder):
    return [record["step"] for record in metrics(folder) if "loss" in record]


def test_a_folder_with_something_in_it_is_refused_and_kept(ld3m, small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    outcome = ld3m("distill", *small, "--out", "run")
    assert outcome.code == 2
    assert "--resume run" in outcome.error
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_an_empty_folder_is_taken_and_without_a_name_each_run_gets_its_own(ld3m, small, tmp_path):
    (tmp_path / "run").mkdir()
    assert ld3m("distill", *small, "--steps", "0", "--out", "run").code == 0
    for _ in range(2):
        assert ld3m("distill", *small, "--steps", "0").code == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["fashion-mnist-embedded-pixel-dm-ipc1-seed0", "fashion-mnist-embedded-pixel-dm-ipc1-seed0-2"]


# What goes wrong in a run ---------------------------------------------------------------------------------------------

ODD = """
import os
import torch
from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import DifferentiableObjective, Tracker


class NotANumber(DifferentiableObjective):
    def loss(self, images, labels, step):
        return images.square().mean() * (float("nan") if step == 2 else 1.0)


class Killed(DifferentiableObjective):
    def loss(self, images, labels, step):
        torch.rand(3, generator=self.rng)
        if step == 3 and not os.path.exists("killed"):
            open("killed", "w").close()
            os._exit(9)  # as the kernel does when memory runs out: nothing is cleaned up
        weights = torch.rand(images.shape[1:], generator=self.rng)
        return (images * weights).square().mean()


class FailsIn(Tracker):
    where = "log"

    def start(self, folder, config):
        self.fail("start")
        return self

    def log(self, record):
        self.fail("log")

    def finish(self):
        self.fail("finish")

    def fail(self, where):
        if where == self.where:
            raise OSError(f"no connection in {where}")


@hookimpl
def register_objectives(register):
    register("not-a-number", NotANumber)
    register("killed", Killed)


@hookimpl
def register_trackers(register):
    for name in ("start", "log", "finish"):
        register(f"fails-in-{name}", type(name.title(), (FailsIn,), {"where": name}))
"""
PLAIN = ["--data", "fashion-mnist:embedded", "-g", "pixel", "--no-evaluate"]


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_keeps_the_state_before_it(site, ld3m, tmp_path):
    site.add("odd-one", {"odd": ODD})
    first = ld3m("distill", *PLAIN, "-o", "not-a-number", "--steps", "5", "--out", "run")
    assert first.code == 1
    assert "step 3" in first.error
    assert [path.name for path in checkpoint_folders(tmp_path / "run")] == ["step-000002"]
    assert steps_of(tmp_path / "run") == [1, 2]
    again = ld3m("distill", "--resume", "run")
    assert (again.code, again.error) == (1, first.error)
    assert steps_of(tmp_path / "run") == [1, 2]


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_tracker_that_raises_is_turned_off_and_the_run_goes_on(site, ld3m, small, small_dm, tmp_path, where):
    site.add("odd-one", {"odd": ODD})
    outcome = ld3m("distill", *small, *small_dm, "--set", f"trackers=[fails-in-{where}]", "--out", "run")
    assert outcome.code == 0, outcome.err
    (warning,) = [line for line in outcome.err.splitlines() if "warning" in line]
    told = f"warning: tracker 'fails-in-{where}' failed and is turned off: "
    assert warning.startswith(told)
    assert warning.endswith(f"Error: no connection in {where}")
    assert steps_of(tmp_path / "run") == [1, 2]
    assert (tmp_path / "run" / "distilled" / "metadata.json").is_file()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_images(site, new_process, ld3m, tmp_path):
    site.add("odd-one", {"odd": ODD})
    settings = ["distill", *PLAIN, "-o", "killed", "--steps", "6", "--set", "checkpoint_every=2"]
    killed = new_process("-m", "ld3m_plugin", *settings, "--out", "stopped", site=site)
    assert killed.returncode == 9, killed.stderr
    assert steps_of(tmp_path / "stopped") == [1, 2, 3]
    with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a line that was being written
    assert ld3m("distill", "--resume", "stopped").code == 0
    assert ld3m(*settings, "--out", "straight").code == 0
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


def assert_same_result(one, other):
    for name in ("images.safetensors", "latents.safetensors"):
        assert (one / "distilled" / name).read_bytes() == (other / "distilled" / name).read_bytes()
    records = [[{**record, "seconds": 0} for record in metrics(folder)] for folder in (one, other)]
    assert records[0] == records[1]
    assert steps_of(one) == list(range(1, len(records[0]) + 1))


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path, environment_of):
    arguments = ["distill", *PLAIN, "--steps", "100000", "-O", "batch_real=4", "-O", "network_settings={width: 8}"]
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", *arguments, "--out", str(folder)],
        cwd=tmp_path,
        env=environment_of(None, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job that a shell put in the background inherits that SIGINT is ignored; a terminal's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").is_file() or len(steps_of_partial(folder)) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"--resume {folder}" in err.splitlines()[-1]
    (checkpoint,) = checkpoint_folders(folder)
    steps = steps_of(folder)
    assert steps == list(range(1, len(steps) + 1))
    # The record of a step is written before its state is kept: the signal may have come in between.
    assert int(load_file(checkpoint / "state.safetensors")["host/iteration"]) in {len(steps) - 1, len(steps)}


def steps_of_partial(folder):
    """Lines that are complete while the file is being written."""
    return (folder / "metrics.jsonl").read_text().split("\n")[:-1]


# Stopped anywhere, a run goes on bit for bit --------------------------------------------------------------------------


class StopsAt(run.Reporter):
    """Ctrl-C after a step."""

    def __init__(self, step):
        self.at = step

    def step(self, step):
        if step.iteration == self.at:
            raise KeyboardInterrupt


class StopsInEvaluation(run.Reporter):
    """Ctrl-C while a network is being trained."""

    def evaluating(self, what):
        raise KeyboardInterrupt


def small_config(**more):
    options = {"batch_real": 2, "network_settings": {"width": 8, "depth": 2}, "dsa": "crop_flip"}
    settings = {"steps": 4, "checkpoint_every": 2, "evaluation.final": False, "objective.options": options}
    return resolve(settings={"generator.name": "pixel", **settings, **more}.items())


def interrupted_and_resumed(config, folder, reporter, registry=None):
    with pytest.raises(KeyboardInterrupt):
        run.start(config, folder, task=tiny_task(), reporter=reporter, registry=registry)
    return run.resume(folder, task=tiny_task(), registry=registry)


SGD = {"optimizer.name": "sgd", "optimizer.learning_rates.pixels": 1.0, "generator.options.init": "noise"}
CHUNKS = {"render_batch": 2, "checkpoint_every": 0}


@pytest.mark.parametrize(
    ("stop", "more"),
    [(1, {}), (2, {}), (3, {}), (4, {}), (3, SGD), (3, CHUNKS)],
    ids=["1", "2, a checkpoint", "3", "4, the last", "3, SGD from noise", "3, chunks and no checkpoints"],
)
def test_a_run_stopped_between_steps_goes_on_bit_for_bit(tmp_path, stop, more):
    config = small_config(**more)
    run.start(config, tmp_path / "straight", task=tiny_task())
    interrupted_and_resumed(config, tmp_path / "stopped", StopsAt(stop))
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


class StopsInside(DifferentiableObjective):
    """Ctrl-C in the middle of a step, after random numbers were drawn."""

    stop_at: int | None = None

    def loss(self, images, labels, step):
        weights = torch.rand(images.shape[1:], generator=self.rng)
        if step == type(self).stop_at:
            type(self).stop_at = None
            raise KeyboardInterrupt
        return (images * weights).square().mean()


def test_a_run_stopped_inside_a_step_goes_on_bit_for_bit(tmp_path, load):
    registry = load()
    objective = type("Stops", (StopsInside,), {})
    registry.add(Backend("objective", "stops", objective, "", Owner("stops", "stops", "1.0")))
    config = small_config(**{"objective.options": {}, "objective.name": "stops"})
    run.start(config, tmp_path / "straight", task=tiny_task(), registry=registry)
    objective.stop_at = 2
    interrupted_and_resumed(config, tmp_path / "stopped", run.Reporter(), registry)
    assert objective.stop_at is None
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


class Linear(Network):
    """The quickest network there is."""

    def __init__(self, channels, image_size, num_classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images):
        return self.last(images.flatten(1))


def test_a_run_stopped_in_its_evaluation_repeats_only_that(tmp_path, load, two_epochs):
    registry = load()
    registry.add(Backend("network", "Linear", Linear, "", Owner("linear", "linear", "1.0")))
    evaluation = {"final": True, "networks": ["Linear"], "repeats": 1, "protocol": two_epochs}
    config = small_config(steps=2, checkpoint_every=0, evaluation=evaluation)
    with pytest.raises(KeyboardInterrupt):
        run.start(config, tmp_path / "run", task=tiny_task(), registry=registry, reporter=StopsInEvaluation())
    assert [path.name for path in checkpoint_folders(tmp_path / "run")] == ["step-000002"]
    made = []
    reporter = type("Counts", (run.Reporter,), {"step": lambda self, step: made.append(step)})()
    resumed = run.resume(tmp_path / "run", task=tiny_task(), registry=registry, reporter=reporter)
    assert resumed.evaluation is not None
    assert made == []
    assert steps_of(tmp_path / "run") == [1, 2]
    # Resuming a finished run evaluates again, and the records are of the last time alone.
    run.resume(tmp_path / "run", task=tiny_task(), registry=registry)
    assert len([record for record in metrics(tmp_path / "run") if "protocol" in record]) == 2


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(ld3m, small, small_dm, tmp_path):
    assert ld3m("distill", *small, *small_dm, "--set", "checkpoint_every=1", "--out", "run").code == 0
    state = checkpoint_folders(tmp_path / "run")[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    outcome = ld3m("distill", "--resume", "run")
    assert outcome.code == 0, outcome.err
    assert "step-000002/state.safetensors is damaged" in outcome.err
    assert steps_of(tmp_path / "run") == [1, 2]

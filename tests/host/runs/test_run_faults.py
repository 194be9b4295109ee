"""Kills, signals, damage and other processes: what a run folder is then, and that the run goes on to the same bits."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import typer

from ld3m_plugin.cli.common import orderly_end
from ld3m_plugin.config import resolve
from ld3m_plugin.contracts import DifferentiableObjective
from ld3m_plugin.errors import ArtefactError, PluginFailedError, UsageError
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.runs import run
from ld3m_plugin.runs.checkpoints import checkpoint_folders
from ld3m_plugin.runs.folder import claimed, new_folder, run_name
from ld3m_plugin.storage import LOCK, InUseError, locked
from ld3m_plugin.testing import tiny_task


class Draws(DifferentiableObjective):
    """A quick loss that depends on all steps before it."""

    def prepare(self, task, labels, rng):
        super().prepare(task, labels, rng)
        self.count = torch.zeros(1)

    def loss(self, images, labels, step):
        self.count += 1
        return (images * (self.count + torch.rand(1, generator=self.rng))).square().mean()

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.count = state["count"].clone()


class Fails(Draws):
    def loss(self, images, labels, step):
        if step == 2:
            raise ValueError("a mistake in a plugin")
        return super().loss(images, labels, step)


def our_registry():
    made, here = build_registry(), Owner("tests", "tests", "0")
    made.add(Backend("objective", "draws", Draws, "", here))
    made.add(Backend("objective", "fails", Fails, "", here))
    return made


@pytest.fixture
def registry():
    return our_registry()


def config(**more):
    settings = {"steps": 5, "evaluation.final": False, "checkpoint_every": 0, "objective.name": "draws", **more}
    return resolve(settings={"generator.name": "pixel", **settings}.items())


class At(run.Reporter):
    """Does something after a step, and keeps the warnings."""

    def __init__(self, step=0, act=None):
        self.at, self.act, self.warnings = step, act, []

    def step(self, step):
        if step.iteration == self.at:
            self.act()

    def warn(self, message):
        self.warnings.append(message)


def stops():
    raise KeyboardInterrupt


@pytest.fixture
def start(tmp_path, registry):
    return lambda name="run", reporter=None, **more: run.start(
        config(**more), tmp_path / name, task=tiny_task(), registry=registry, reporter=reporter
    )


@pytest.fixture
def resume(tmp_path, registry):
    return lambda name="run", reporter=None: run.resume(
        tmp_path / name, task=tiny_task(), registry=registry, reporter=reporter
    )


@pytest.fixture
def stopped(start):
    """Makes a run that was stopped after four steps, with checkpoints of two and three."""

    def make(name="run"):
        with pytest.raises(KeyboardInterrupt):
            start(name, At(4, stops), checkpoint_every=1)

    return make


def begin(folder, *acts, **more):
    """Start a run; `acts` are a step and a signal that this process gets after it."""
    reporter = At(acts[0], lambda: os.kill(os.getpid(), acts[1])) if acts else None
    run.start(config(**more), folder, task=tiny_task(), registry=our_registry(), reporter=reporter)


def begin_with_checkpoints(folder):
    begin(folder, checkpoint_every=2)


def go_on(folder):
    run.resume(folder, task=tiny_task(), registry=our_registry())


def begin_as_a_command(folder, ignored):
    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with orderly_end(lambda: folder.with_name("said").write_text("")):
            begin(folder, 3, signal.SIGHUP)
    except typer.Exit as end:
        os._exit(end.exit_code)


def images(folder):
    return (folder / "distilled" / "images.safetensors").read_bytes()


def names(folder):
    return [path.name for path in checkpoint_folders(folder)]


# signals --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("more", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGINT)], ids=["twice", "three times"])
def test_signals_within_the_save_wait_for_it(start, resume, tmp_path, child, more):
    folder = tmp_path / "run"
    assert child(__file__, "begin", folder, 4, int(signal.SIGINT), signals_at=("os.mkdir", ".step-", more)) == 130
    assert names(tmp_path / "run") == ["step-000003"]
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    start("straight")
    resume()
    assert images(tmp_path / "run") == images(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True], ids=["as it is", "after nohup"])
def test_a_terminal_that_closes_stops_a_run_as_sigterm_does(tmp_path, child, ignored):
    assert child(__file__, "begin_as_a_command", tmp_path / "run", int(ignored)) == (0 if ignored else 130)
    assert names(tmp_path / "run") == ["step-000005" if ignored else "step-000002"]
    assert (tmp_path / "said").exists() != ignored


# kills ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("record", ["environment.json", "config.yaml"])
def test_a_start_that_was_killed_is_repeated_by_the_same_command(start, resume, tmp_path, child, registry, record):
    folder = tmp_path / "run"
    assert child(__file__, "begin", tmp_path / "run", kill_at=("os.rename", record)) == -signal.SIGKILL
    assert (folder / LOCK).is_file()
    assert not (folder / "config.yaml").exists()
    with pytest.raises(ArtefactError, match="same command"):
        resume()
    start()
    start("straight")
    assert images(folder) == images(tmp_path / "straight")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (tmp_path / "straight").iterdir()
    )


@pytest.mark.slow
def test_a_run_with_settings_has_the_facts_its_data_is_compared_by(start, resume, tmp_path, child, registry):
    assert child(__file__, "begin", tmp_path / "run", kill_at=("open", "metrics.jsonl")) == -signal.SIGKILL
    assert (tmp_path / "run" / "config.yaml").is_file()
    with pytest.raises(ArtefactError, match="random images for tests"):
        run.resume(tmp_path / "run", task=tiny_task(train=13), registry=registry)
    start("straight")
    resume()
    assert images(tmp_path / "run") == images(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["step-000002", "distilled"])
def test_a_kill_within_a_save_loses_no_more_than_that_save(start, resume, tmp_path, child, place):
    assert child(__file__, "begin_with_checkpoints", tmp_path / "run", kill_at=("os.rename", place)) == -signal.SIGKILL
    resume()
    start("straight", checkpoint_every=2)
    assert images(tmp_path / "run") == images(tmp_path / "straight")
    assert not list((tmp_path / "run").rglob(".*"))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]


def test_files_of_others_are_no_leftovers(start, tmp_path):
    (tmp_path / "run").mkdir()
    for name in (".thesis.partial", "environment.json"):
        (tmp_path / "run" / name).write_text("{}")
        with pytest.raises(UsageError, match="not empty"):
            start()
        assert (tmp_path / "run" / name).read_text() == "{}"
        (tmp_path / "run" / name).unlink()


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_run_without_its_record_of_the_data_says_so_and_writes_it_again(stopped, tmp_path, registry, how):
    stopped()
    record, warned = tmp_path / "run" / "environment.json", []

    class Listens(run.Reporter):
        def warn(self, message):
            warned.append(message)

    record.unlink() if how == "missing" else record.write_text("[" * 1000)
    run.resume(tmp_path / "run", task=tiny_task(), registry=registry, reporter=Listens())
    assert [str(record) in line for line in warned] == [True]
    with pytest.raises(ArtefactError, match="random images for tests"):
        run.resume(tmp_path / "run", task=tiny_task(train=13), registry=registry)


def test_a_folder_in_the_place_of_the_record_is_one_line(stopped, resume, tmp_path):
    stopped()
    record = tmp_path / "run" / "environment.json"
    record.unlink()
    record.mkdir()
    with pytest.raises(ArtefactError) as refusal:
        resume()
    assert str(record) in str(refusal.value)


def test_metrics_that_are_a_pipe_are_refused_at_once(stopped, resume, tmp_path):
    stopped()
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.unlink()
    os.mkfifo(metrics)
    with pytest.raises(ArtefactError, match="not a file") as refusal:
        resume()
    assert str(metrics) in str(refusal.value)


# other processes ------------------------------------------------------------------------------------------------------


def test_a_folder_that_another_process_is_in_is_refused(start, resume, stopped, tmp_path, process_in):
    stopped()
    before = sorted((tmp_path / "run").rglob("*"))
    holder = process_in(lambda: claimed(tmp_path / "run"))
    with pytest.raises(InUseError, match=f"process {holder.pid} on "):
        resume()
    new = process_in(lambda: claimed(tmp_path / "new"))
    with pytest.raises(InUseError, match=f"process {new.pid} on .*--out"):
        start("new")
    holder.kill()
    assert sorted(p for p in (tmp_path / "run").rglob("*") if p.name != LOCK) == before
    resume()


def test_runs_that_start_at_once_without_a_name_have_folders_of_their_own(tmp_path, process_in):
    def claim():
        return new_folder(tmp_path / "runs", run_name(config()))

    holders = [process_in(claim) for _ in range(3)]
    taken = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name[len(taken[0]) :] for name in taken] == ["", "-2", "-3"]
    with claim() as folder:
        assert folder.name == f"{taken[0]}-4"
    assert not folder.exists(), "nothing was written there"
    holders[1].kill()
    with claim() as folder:
        assert folder.name == f"{taken[0]}-2", "a dead process keeps no folder"


def test_a_folder_is_claimed_before_anything_is_prepared(tmp_path, registry):
    class Looks(Draws):
        def prepare(self, task, labels, rng):
            super().prepare(task, labels, rng)
            seen.append((tmp_path / "run" / LOCK).is_file())

    seen = []
    registry.add(Backend("objective", "looks", Looks, "", Owner("tests", "tests", "0")))
    run.start(config(**{"objective.name": "looks"}), tmp_path / "run", task=tiny_task(), registry=registry)
    assert seen == [True]
    assert not (tmp_path / "run" / LOCK).exists()


def test_two_trainings_of_priors_do_not_share_a_folder(tmp_path, process_in):
    from ld3m_plugin.priors.service import check_training, train_prior

    out = tmp_path / "prior"
    holder = process_in(lambda: locked(tmp_path / f".prior{LOCK}", out, "choose another folder"))
    for call in (
        lambda: check_training("ldm", out, {}),
        lambda: train_prior("ldm", tiny_task(), out, {}),
    ):
        with pytest.raises(InUseError, match=f"{out} is in use by process {holder.pid}"):
            call()


# damage ---------------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_and_the_checkpoint_before_is_used_and_said(start, resume, stopped, tmp_path):
    start("straight")
    stopped()
    assert names(tmp_path / "run") == ["step-000002", "step-000003"]
    flip(tmp_path / "run" / "checkpoints" / "step-000003" / "state.safetensors")
    reporter = At(4, stops)
    with pytest.raises(KeyboardInterrupt):
        resume(reporter=reporter)
    (warning,) = reporter.warnings
    assert "step-000003/state.safetensors" in warning
    made = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert made == ["step-000002", "step-000003"], "the damaged one is gone now that there is another"
    reporter = At()
    resume(reporter=reporter)
    assert reporter.warnings == []
    assert images(tmp_path / "run") == images(tmp_path / "straight")


@pytest.mark.slow
def test_the_damaged_one_is_kept_until_there_is_another(resume, stopped, tmp_path, child):
    stopped()
    flip(tmp_path / "run" / "checkpoints" / "step-000003" / "state.safetensors")
    assert child(__file__, "go_on", tmp_path / "run", kill_at=("open", "metrics.jsonl")) == -signal.SIGKILL
    made = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert made == ["damaged-step-000003", "step-000002"]


def test_when_all_are_damaged_one_line_names_them(resume, stopped, tmp_path):
    stopped()
    for folder in checkpoint_folders(tmp_path / "run"):
        flip(folder / "state.safetensors")
    with pytest.raises(ArtefactError, match=str(tmp_path / "run" / "checkpoints")) as error:
        resume()
    assert "\n" not in str(error.value)
    assert len(names(tmp_path / "run")) == 2


def test_a_checkpoint_that_does_not_fit_is_one_line(resume, stopped, tmp_path, registry):
    class Other(Draws):
        def load_state_dict(self, state):
            super().load_state_dict({name: value for name, value in state.items() if name != "count"})

    stopped()
    other, here = build_registry(), Owner("tests", "tests", "0")
    other.add(Backend("objective", "draws", Other, "", here))
    with pytest.raises(ArtefactError, match=str(tmp_path / "run")) as error:
        run.resume(tmp_path / "run", task=tiny_task(), registry=other)
    assert "\n" not in str(error.value)


# a folder that vanishes -----------------------------------------------------------------------------------------------


def test_a_run_folder_that_is_deleted_is_one_line_and_does_not_come_back(start, tmp_path):
    with pytest.raises(ArtefactError, match=str(tmp_path / "run")) as error:
        start(reporter=At(3, lambda: shutil.rmtree(tmp_path / "run")), checkpoint_every=1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_first_error_is_told_though_the_save_after_it_fails(start, tmp_path):
    reporter = At(2, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(PluginFailedError, match=r"'fails' .* step 3: ValueError: a mistake in a plugin"):
        start(reporter=reporter, **{"objective.name": "fails"})
    assert any(str(tmp_path / "run") in warning for warning in reporter.warnings)


def test_ctrl_c_promises_nothing_when_the_save_fails(start, tmp_path):
    def delete_and_stop():
        shutil.rmtree(tmp_path / "run")
        raise KeyboardInterrupt

    with pytest.raises(ArtefactError, match=str(tmp_path / "run")):
        start(reporter=At(2, delete_and_stop))


if __name__ == "__main__":  # in a process that a test kills
    name, place, *numbers = sys.argv[1:]
    globals()[name](Path(place), *map(int, numbers))

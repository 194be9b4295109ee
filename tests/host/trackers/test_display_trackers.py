"""Trackers with a display, with the real packages and without network: numbers, settings and pictures arrive."""

import importlib
import json
import os
import subprocess
import sys
import warnings

import pytest
import torch

from ld3m_plugin.config import completed, resolve
from ld3m_plugin.runs.run_trackers import RunTrackers
from ld3m_plugin.trackers.shown_records import run_name, scalars

EVALUATION = {"step": 4, "images": "distilled", "network": "MLP", "accuracies": [40.0, 60.0], "protocol": "quick"}


def test_numbers_of_records():
    assert scalars({"step": 1, "loss": torch.tensor(0.5), "note": "x", "gradient_norm/w": 2}) == {
        "loss": 0.5,
        "gradient_norm/w": 2.0,
    }
    assert scalars(EVALUATION) == {"accuracy/distilled/MLP": 50.0}


def test_a_run_keeps_its_name_and_shares_it_with_none(tmp_path):
    assert run_name(tmp_path / "a") == run_name(tmp_path / "b" / ".." / "a")
    assert run_name(tmp_path / "a") != run_name(tmp_path / "b" / "a")


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_turns_the_tracker_off_and_names_the_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    told = []
    config = completed(resolve(settings=[("generator.name", "pixel"), ("trackers", [name])]))
    with RunTrackers(config, tmp_path, told.append) as running:
        running.log({"step": 1, "loss": 0.5})
    (warning,) = told
    assert f"ld3m-plugin[{name}]" in warning
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'


def distil(ld3m, name):
    """Five steps, with pictures every second one; without a tracker where `name` is None."""
    chosen = [] if name is None else ["--set", f"trackers=[{{name: {name}, options: {{images_every: 2}}}}]"]
    outcome = ld3m(
        *("distill", "--data", "fashion-mnist:embedded", "-g", "pixel", "--steps", "5", "--no-evaluate"),
        *("-O", "batch_real=4", "-O", "network_settings={width: 8}", "--out", "run"),
        *chosen,
    )
    assert outcome.code == 0, outcome.err
    assert "turned off" not in outcome.err


@pytest.fixture
def quiet():
    """Warnings of the packages are their own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def losses(tmp_path):
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_tensorboard_reads_numbers_settings_and_pictures(ld3m, tmp_path, quiet):
    pytest.importorskip("tensorboard", exc_type=ImportError)
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    distil(ld3m, "tensorboard")
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"images": 0, "scalars": 0})
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert [event.value for event in read.Scalars("loss")] == pytest.approx(losses(tmp_path), rel=1e-6)
    pictures = read.Images("set")
    assert [event.step for event in pictures] == [2, 4]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG")
    assert "gradient_norm/pixels" in read.Tags()["scalars"]
    assert "settings/text_summary" in read.Tags()["tensors"]


@pytest.mark.slow
def test_trackio_keeps_numbers_settings_and_pictures(tmp_path):
    pytest.importorskip("trackio", exc_type=ImportError)
    script = tmp_path / "run.py"
    script.write_text(TRACKIO)  # a process of its own: the place is read when the package is imported
    environ = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [value for _, value in found["loss"]] == pytest.approx(losses(tmp_path))
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5]
    assert found["pictures"] == [2, 4]
    assert len(list((tmp_path / "trackio").rglob("*.png"))) == 2
    assert (
        len(done.stdout.splitlines()) == 3
    )  # two of `ld3m distill`, and the answer: the package's own lines go elsewhere


TRACKIO = """
import json, sys
sys.argv = ["ld3m", "distill", "--data", "fashion-mnist:embedded", "-g", "pixel", "--steps", "5", "--no-evaluate", "--out", "run",
            "-O", "batch_real=4", "-O", "network_settings={width: 8}",
            "--set", "trackers=[{name: trackio, options: {images_every: 2, project: tests}}]"]
from ld3m_plugin import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
from pathlib import Path
from trackio.sqlite_storage import SQLiteStorage
from ld3m_plugin.trackers.shown_records import run_name
logs = SQLiteStorage.get_logs("tests", run_name(Path("run")))
print(json.dumps({
    "loss": [(log["step"], log["loss"]) for log in logs if "loss" in log],
    "pictures": [log["step"] for log in logs if "set" in log],
}))
"""


@pytest.mark.slow
def test_wandb_keeps_numbers_and_pictures_offline(ld3m, tmp_path, quiet, monkeypatch):
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    distil(ld3m, "wandb")
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (log,) = run.glob("*.wandb")
    content = log.read_bytes()
    assert b"gradient_norm/pixels" in content
    assert all(repr(loss).encode() in content for loss in losses(tmp_path))
    pictures = list((run / "files" / "media" / "images").glob("*.png"))
    assert len(pictures) == 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


@pytest.mark.slow
def test_pictures_change_no_bit_of_a_run(ld3m, tmp_path):
    pytest.importorskip("tensorboard", exc_type=ImportError)
    from ld3m_plugin.artefact.distilled_set import DistilledSet

    distil(ld3m, "tensorboard")
    shown = DistilledSet.load(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "first")
    distil(ld3m, None)
    assert torch.equal(DistilledSet.load(tmp_path / "run").images, shown.images)

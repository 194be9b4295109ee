"""What the commands show and refuse of a folder of pictures."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import DataError
from ld3m_plugin.evaluation import evaluate

SHORT = ("-g", "pixel", "-O", "batch_real=2", "-D", "image_size=16", "--steps", "1", "--no-evaluate")
ONE_EPOCH = """
name: one epoch
summary: as short as can be
source: a test
networks: [ConvNet]
network_settings: {ConvNet: {width: 8, depth: 1}}
repeats: 1
epochs: 1
batch_size: 8
learning_rate: 0.01
dsa: none
"""


@pytest.fixture
def data(tmp_path):
    """Two classes of 6 pictures of noise."""
    rng = numpy.random.default_rng(0)
    for name in ("x", "y"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


def test_one_class_alone_is_read_and_refused_where_classes_are_told_apart(data):
    shutil.rmtree(data / "y")
    task = load_task(f"imagefolder:{data}")
    assert task.class_names == ("x",)
    distilled = SimpleNamespace(images=torch.zeros(1, 3, 16, 16), labels=torch.tensor([0]))
    with pytest.raises(DataError, match="'x'"):
        evaluate(distilled, task)
    with pytest.raises(DataError, match="'x'"):
        Distillation({"generator": {"name": "pixel"}}, task=task)


@pytest.mark.slow
def test_one_class_alone_leaves_no_run_folder(data, ld3m):
    shutil.rmtree(data / "y")
    refused = ld3m("distill", *SHORT, "--data", f"imagefolder:{data}", "--out", "run")
    assert (refused.code, "'x'" in refused.error, Path("run").exists()) == (1, True, False)


@pytest.mark.slow
def test_distill_and_evaluate_show_what_is_left_out_and_warn_of_copies(data, ld3m):
    for index in range(6):
        shutil.copy(data / "x" / f"{index}.png", data / "x" / f"copy-{index}.png")
    (data / "notes.txt").touch()
    done = ld3m("distill", *SHORT, "--data", f"imagefolder:{data}", "-D", "test_fraction=0.5", "--out", "run")
    assert done.code == 0, done.err
    Path("one-epoch.yaml").write_text(ONE_EPOCH, encoding="utf-8")
    evaluated = ld3m("evaluate", "run", "--protocol", "one-epoch.yaml", "--no-random-real")
    assert evaluated.code == 0, evaluated.err
    for said in (done.err, evaluated.err):
        assert "left out: 1 .txt" in said
        (warning,) = [line for line in said.splitlines() if line.startswith("warning: ")]
        assert str(data / "x" / "copy-") in warning


@pytest.mark.slow
def test_a_run_inside_its_own_data_goes_on(data, ld3m, monkeypatch):
    here = data.parent
    for path in data.iterdir():
        path.rename(here / path.name)
    data.rmdir()
    command = ("distill", *SHORT, "--data", "imagefolder:.")
    for _ in range(2):
        done = ld3m(*command)
        assert done.code == 0, done.err
    assert sorted(path.name for path in here.iterdir()) == ["runs", "x", "y"]
    runs = sorted((here / "runs").iterdir())
    assert len(runs) == 2
    for run in runs:
        resumed = ld3m("distill", "--resume", run)
        assert resumed.code == 0, resumed.err
    monkeypatch.chdir(here)
    task = load_task("imagefolder:.")
    assert task.class_names == ("x", "y")
    assert task.source.endswith("left out: 1 run folder")


@pytest.mark.slow
def test_names_of_files_that_are_not_utf8_do_not_stop_a_run(data, ld3m):
    os.rename(data / "x" / "0.png", os.fsencode(data / "x") + b"/\xe9.png")  # noqa: PTH104 (a path of bytes)
    shutil.copy(data / "x" / "1.png", os.fsencode(data / "x") + b"/\xe8.png")
    done = ld3m("distill", *SHORT, "--data", f"imagefolder:{data}", "-D", "test_fraction=0.5", "--out", "run")
    assert done.code == 0, done.err
    os.truncate(os.fsencode(data / "x") + b"/\xe9.png", 0)
    refused = ld3m("distill", *SHORT, "--data", f"imagefolder:{data}", "--out", "run-2")
    assert (refused.code, f"{data}/x/" in refused.error) == (1, True)


@pytest.mark.parametrize("place", ["n" * 300, "~nobody-of-this-name/x"])
def test_a_folder_that_the_system_cannot_look_at_is_one_line(place):
    with pytest.raises(DataError) as refusal:
        load_task(f"imagefolder:{place}")
    assert place in str(refusal.value)
    for name in ("imagenet:nette", "fashion-mnist", "cifar10"):
        with pytest.raises(DataError) as refusal:
            load_task(name, root=place)
        assert place in str(refusal.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root enters every folder")
def test_a_folder_in_one_that_may_not_be_entered_is_one_line(tmp_path):
    (tmp_path / "closed" / "inside").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        load_task(f"imagefolder:{tmp_path / 'closed' / 'inside'}")
    (tmp_path / "closed").chmod(0o700)

"""What the library says: through `logging` in Python, as lines of the program on the command line, once each."""

import logging
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.cli.progress import ConsoleReporter
from ld3m_plugin.comparison.grid_runner import GridReporter
from ld3m_plugin.config import RunConfig
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import distill
from ld3m_plugin.evaluation import evaluate, get_protocol
from ld3m_plugin.evaluation.evaluating import TrainingBegins
from ld3m_plugin.runs.reporter import Reporter
from ld3m_plugin.runs.run import start
from ld3m_plugin.testing.tiny_task import tiny_task

NAME = "ld3m_plugin"
RUN = {
    "steps": 1,
    "generator": {"name": "pixel"},
    "objective": {"name": "dm", "options": {"network_settings": {"width": 2}, "dsa": "none", "batch_real": 512}},
    "evaluation": {"final": False},
}


@pytest.fixture
def with_copies(tmp_path):
    """A folder of two classes; one test picture is a training picture as well."""
    for split, names in {"train": "abc", "val": "de"}.items():
        for k, kind in enumerate("xy"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for name in names:
                place = tmp_path / "data" / split / kind / f"{name}.png"
                Image.new("RGB", (8, 8), (ord(name), 90 * k, 0)).save(place)
    shutil.copy(tmp_path / "data" / "train" / "x" / "a.png", tmp_path / "data" / "val" / "x" / "d.png")
    return tmp_path / "data"


def test_python_sees_filters_and_silences_what_is_said(caplog, with_copies):
    with caplog.at_level(logging.WARNING, logger=NAME):
        load_task(f"imagefolder:{with_copies}")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("ld3m_plugin.data.load", "WARNING")
    assert "1 of 4 test images" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger=NAME):
        load_task(f"imagefolder:{with_copies}")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    caplog.clear()
    with caplog.at_level(logging.CRITICAL, logger=NAME):
        load_task(f"imagefolder:{with_copies}")
    assert caplog.records == []


@pytest.mark.slow
def test_distillations_runs_and_evaluations_log(caplog, tmp_path):
    task = tiny_task(train=4, test=2)
    caplog.set_level(logging.DEBUG, logger=NAME)
    list(distill(RUN, task=task))
    assert "batch_real = 512" in caplog.text
    caplog.clear()
    start(RunConfig.model_validate(RUN), tmp_path / "run", task=task)
    assert "batch_real = 512" in caplog.text
    assert "step 1 of 1: loss" in caplog.text
    assert str(tmp_path / "run") in caplog.text
    caplog.clear()
    short = get_protocol("quick").model_copy(update={"name": "short", "epochs": 1})
    evaluate(DistilledSet.load(tmp_path / "run"), task, networks=["MLP"], protocol=short, repeats=1, random_real=False)
    assert [record.name for record in caplog.records] == ["ld3m_plugin.evaluation.evaluating"]
    assert "MLP on distilled images, 1 of 1" in caplog.text


def test_reporters_log_unless_they_show_it_themselves(caplog):
    caplog.set_level(logging.INFO, logger=NAME)
    for reporter in (Reporter(), GridReporter(), TrainingReporter()):
        reporter.say("a line")
    Reporter().warn("a problem")
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "INFO", "WARNING"]
    caplog.clear()
    with ConsoleReporter() as shown:
        shown.say("a line")
        shown.warn("a problem")
    assert caplog.records == []


@pytest.mark.parametrize("flags", [(), ("-q",), ("-v",)], ids=str)
def test_the_program_says_it_once(ld3m, with_copies, flags):
    words = ["-g", "pixel", "--steps", "0", "--no-evaluate"]
    outcome = ld3m(*flags, "distill", "--data", f"imagefolder:{with_copies}", *words)
    assert outcome.code == 0, outcome.err
    assert sum("1 of 4 test images" in line for line in outcome.err.splitlines()) == 1
    assert "warning: 1 of 4 test images" in outcome.err
    assert ("ld3m_plugin.data.load: data: imagefolder" in outcome.err) == ("-v" in flags)
    # The command is over: the program that called it gets the messages again.
    assert (logging.getLogger(NAME).propagate, logging.getLogger(NAME).handlers) == (True, [])


def test_the_time_to_go_counts_networks_as_they_are_told(capsys):
    reporter = ConsoleReporter()
    reporter.expect_trainings(4)
    told = [TrainingBegins("A, 1 to 3 of 3 together", 3), "one by one, 1 of 3", TrainingBegins("B, 1 of 1", 1)]
    assert [reporter._trainings_to_go(line).split(",")[0] for line in told] == [
        " (network 1 of 4)",
        "",
        " (network 4 of 4",
    ]


@pytest.mark.slow
def test_a_row_process_ends_in_order_while_its_input_is_open():
    """A thread that waits for the end of standard input must not hold a lock that Python needs when it ends."""
    code = (
        "from ld3m_plugin.comparison.row_process import end_with_input; end_with_input(); import time; time.sleep(0.2)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        told = process.stderr.read()  # the end of the process, with its input still open
        assert (process.wait(), told) == (0, b"")

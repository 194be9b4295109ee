"""Rows on a real SLURM cluster of this machine alone: the same bytes as in processes, also after a preemption."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ld3m_plugin.comparison.manifest import Manifest
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.launchers.launcher import Job
from ld3m_plugin.launchers.slurm import SlurmLauncher

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("cluster.sh")
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster with two processors; partition `low` is preempted by partition `high`."""
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    missing = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing or os.geteuid():
        pytest.skip(f"needs root and Debian's slurmctld, slurmd, slurm-client and munge: missing {missing or 'root'}")
    folder = tmp_path_factory.mktemp("slurm")
    before = os.environ.get("SLURM_CONF")
    subprocess.run([str(SCRIPT), "start", str(folder)], check=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield folder
    finally:
        subprocess.run([str(SCRIPT), "stop", str(folder)], check=True)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


WORK = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
turn = len(list(folder.glob("begun*")))
(folder / f"begun{turn}").touch()
def end(*_):
    (folder / f"saved{turn}").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR2, end)
time.sleep(30 if turn == 0 and sys.argv[2] == "long" else 0)
(folder / "done").touch()
"""


@pytest.fixture
def jobs(tmp_path):
    """Three pieces of work; the first is long in its first turn."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "launcher").mkdir()
    made = []
    for name in ("long", "a", "b"):
        (tmp_path / name).mkdir()
        command = (sys.executable, str(tmp_path / "work.py"), str(tmp_path / name), name)
        made.append(Job(name, name, command, tmp_path / f"{name}.txt"))
    return made


def poll_until(launcher, condition, seconds=240.0):
    until = time.monotonic() + seconds
    while not condition(states := launcher.poll()):
        assert time.monotonic() < until, states
        time.sleep(0.2)


def has_ended(states):
    return all(state == "ended" for state in states.values())


def begin_again_at_once():
    """A requeued job waits two minutes by default."""
    for job in subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split():
        subprocess.run(["scontrol", "update", f"job={job}", "StartTime=now"], capture_output=True, check=False)


@pytest.mark.parametrize("reason", ["preemption", "time limit"])
def test_an_element_that_must_end_saves_and_has_another_turn(cluster, jobs, tmp_path, reason):
    launcher = SlurmLauncher(jobs=3, partition="low", poll=0.3, minutes=10)
    launcher.start(jobs, tmp_path / "launcher")
    poll_until(launcher, lambda _: (tmp_path / "long" / "begun0").exists())
    other = ["sbatch", "-p", "high", "-c", "2", "-t", "1", "-o", "/dev/null", "--wrap", "sleep 1"]
    warning = ["scancel", "--signal=USR2", launcher._elements["long"]]  # what SLURM sends before the time limit
    subprocess.run(other if reason == "preemption" else warning, check=True, capture_output=True)
    poll_until(launcher, lambda _: (tmp_path / "long" / "saved0").exists())

    def ended(states):
        begin_again_at_once()
        return has_ended(states)

    poll_until(launcher, ended)
    assert all((tmp_path / name / "done").exists() for name in ("long", "a", "b"))
    assert (tmp_path / "long" / "begun1").exists()


def test_a_second_call_waits_for_what_runs_and_submits_nothing_twice(cluster, jobs, tmp_path):
    first = SlurmLauncher(jobs=3, partition="low", poll=0.3, minutes=10)
    first.start(jobs, tmp_path / "launcher")
    poll_until(first, lambda _: (tmp_path / "long" / "begun0").exists())
    second = SlurmLauncher(jobs=3, partition="low", poll=0.3, minutes=10)
    second.start(jobs[:1], tmp_path / "launcher")
    assert second._elements == {"long": first._elements["long"]}
    second.stop()
    assert has_ended(second.poll())
    assert (tmp_path / "long" / "saved0").exists()
    first.stop()


def test_what_sbatch_refuses_is_one_line(cluster, jobs, tmp_path):
    with pytest.raises(HostError, match=r"sbatch.*partition") as raised:
        SlurmLauncher(partition="nowhere").start(jobs, tmp_path / "launcher")
    assert "\n" not in str(raised.value)


def test_without_submitit_the_line_says_what_to_install(jobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"\[slurm\]"):
        SlurmLauncher().start(jobs, tmp_path / "launcher")


def test_without_slurm_the_line_names_the_other_launcher(jobs, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="needs the extra [slurm]")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="--launcher local"):
        SlurmLauncher().start(jobs, tmp_path / "launcher")


def test_rows_on_a_cluster_are_those_of_processes(cluster, tmp_path):
    """Six tiny rows through local processes, one and two at a time, and through SLURM give the same bytes."""
    arguments = [
        *(sys.executable, "-m", "ld3m_plugin", "compare", "--generators", "pixel,autoencoder", "--objectives", "dm"),
        *(
            "--data",
            "fashion-mnist:embedded",
            "--seeds",
            "0,1,2",
            "--steps",
            "2",
            "--networks",
            "ConvNet",
            "--repeats",
            "1",
        ),
        *("-O", "batch_real=8", "-O", "network_settings={width: 8}", "--set", "evaluation.test_per_class=5"),
        *("--no-random-real", "--controls", "none"),
    ]
    slurm = ["--launcher", "slurm", "--launcher-option", "partition=low", "--launcher-option", "poll=0.5"]
    for name, more in {"one": ["--jobs", "1"], "two": ["--jobs", "2"], "slurm": [*slurm, "--jobs", "2"]}.items():
        subprocess.run([*arguments, *more, "--out", str(tmp_path / name)], check=True, timeout=900)
    found = []
    for name in ("one", "two", "slurm"):
        manifest = Manifest.read(tmp_path / name)
        files = [manifest.run_folder(row) / "distilled" / "images.safetensors" for row in manifest.rows]
        found.append([path.read_bytes() for path in files])
    assert len(found[0]) == 6
    assert found[0] == found[1] == found[2]

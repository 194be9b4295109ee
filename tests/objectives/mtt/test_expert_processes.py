"""`ld3m experts train` in processes of its own: stopped by a signal, and twice at once."""

import signal
import subprocess
import sys
import time

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_how_to_go_on_and_does(tiny_site, ld3m, training, tmp_path, environment_of, sign):
    many = training(2000)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", *many],
        cwd=tmp_path,
        env=environment_of(tiny_site, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job that a shell put in the background inherits that SIGINT is ignored; a terminal's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 300  # as long as other new processes may take on a busy machine
        while not list(tmp_path.glob("experts/*/expert-00003.safetensors")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sign)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "stopped; the same command goes on"
    assert "Traceback" not in err
    (folder,) = (tmp_path / "experts").iterdir()
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("expert-*")}
    assert not list(folder.glob(".*")), "no half-written file is left"
    outcome = ld3m(*training(len(finished) + 1))
    assert outcome.code == 0, outcome.err
    assert f"{len(finished) * 8} of them made before" in outcome.err
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("expert-*")}
    assert len(after) == len(finished) + 1
    assert finished.items() <= after.items()


@pytest.mark.slow
def test_two_processes_with_the_same_command_make_the_same_experts(tiny_site, ld3m, training, tmp_path, environment_of):
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "ld3m_plugin", *training(8)],
            cwd=tmp_path,
            env=environment_of(tiny_site, {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in both:
            out, err = process.communicate(timeout=300)
            assert (process.returncode, out[:9]) == (0, "experts: "), err
    finally:
        for process in both:
            process.kill()
    (folder,) = (tmp_path / "experts").iterdir()
    assert len(list(folder.glob("expert-*"))) == 8
    assert not list(folder.glob(".*")), "no half-written file is left"
    verified = ld3m("experts", "list", "--verify")
    assert (verified.code, verified.out.split()[-1]) == (0, "complete")

"""Full disks, little memory, readers that go away, Ctrl-C while libraries load: one line, an exit code, no traceback."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ld3m_plugin.errors import DataError, ExitCode, HostError, NoMemoryError, is_out_of_memory, of_the_machine, visible

#: What libraries raise when memory ends.
MEMORY_ENDS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("could not create a primitive"),
    RuntimeError("unable to mmap 4096 bytes from file </x>: Cannot allocate memory (12)"),
    RuntimeError("CUDA error: out of memory\nmore"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("can't start new thread"),
    OSError(12, "Cannot allocate memory"),
    ImportError("libx.so: failed to map segment from shared object: Cannot allocate memory"),
    ImportError("libx.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize("error", MEMORY_ENDS, ids=repr)
def test_every_end_of_memory_has_the_same_advice(error):
    told = of_the_machine(error, "take less")
    assert type(told) is NoMemoryError
    assert told.exit_code == ExitCode.MEMORY
    assert "take less" in str(told)
    assert "\n" not in str(told)


def test_an_end_of_memory_behind_another_error_is_found_and_quoted_text_is_not_one():
    damaged = DataError("x.png is damaged")
    damaged.__cause__ = MemoryError("9 GiB")
    assert type(of_the_machine(damaged)) is NoMemoryError
    assert not is_out_of_memory(HostError("the file out of memory.png is missing"))
    assert of_the_machine(ValueError("wrong")) is None
    assert (
        of_the_machine(ImportError("x.so: failed to map segment from shared object: Operation not permitted")) is None
    )
    assert of_the_machine(DataError("gone")) is None


def limited(size):
    """Limits the files that a child may write: a real error of the system, as on a full disk."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def program(*arguments, **more):
    """Run the program in a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "ld3m_plugin", *arguments]
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(command, env=environment, text=True, check=False, timeout=300, **given)


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 1000, 40_000, 70_000])
def test_a_file_that_cannot_be_written_is_one_line_with_its_path(small, tmp_path, size):
    # The limits end the configuration, the records of the machine, a checkpoint, and a picture or the images.
    run = tmp_path / "run"
    done = program("distill", *small, "--out", str(run), cwd=tmp_path, preexec_fn=limited(size))
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert str(run) in last
    assert done.returncode == ExitCode.DISK


@pytest.mark.slow
def test_what_a_full_disk_leaves_goes_on_as_the_line_says_and_an_evaluation_is_still_printed(small, tmp_path):
    run, limit = tmp_path / "run", limited(6000)
    done = program("distill", *small, "--out", str(run), cwd=tmp_path, preexec_fn=limit)
    assert ".safetensors" in done.stderr.splitlines()[-1]
    way = done.stderr.splitlines()[-1].rpartition("ld3m ")[2].split()
    assert program(*way, cwd=tmp_path).returncode == 0

    (tmp_path / "short.yaml").write_text(
        "{name: short, summary: one epoch, source: here, networks: [ConvNet], repeats: 1, epochs: 1, batch_size: 16, "
        "learning_rate: 0.01, dsa: none, network_settings: {ConvNet: {width: 4}}}"
    )
    recipe = ["--protocol", "short.yaml", "--test-per-class", "1", "--no-random-real", "--json"]
    done = program("evaluate", str(run), *recipe, "--out", "result.json", cwd=tmp_path, preexec_fn=limited(100))
    assert done.returncode == ExitCode.DISK
    assert json.loads(done.stdout)["rows"]


@pytest.mark.slow
def test_a_full_disk_of_the_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        for arguments in (["plugins"], ["--help"], ["presets", "show", "demo"], ["--version"]):
            done = program(*arguments, stdout=full)
            assert done.returncode == ExitCode.DISK
            assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_run_goes_on_without_readers(small, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = program("distill", *small, "--out", "run", cwd=tmp_path, stderr=writing, stdout=writing)
    os.close(writing)
    assert done.returncode == 0
    assert (tmp_path / "run" / "distilled" / "metadata.json").is_file()


@pytest.mark.slow
def test_an_error_without_a_reader_keeps_its_exit_code():
    reading, writing = os.pipe()
    os.close(reading)
    assert program("plugins", "show", "pixle", stderr=writing).returncode == ExitCode.USAGE
    os.close(writing)


@pytest.mark.slow
def test_little_memory_is_one_line(small, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (900 * 2**20,) * 2)

    large = ["--ipc", "500", "--set", "objective.options.batch_real=500"]
    done = program("distill", *small, *large, "--out", "run", cwd=tmp_path, preexec_fn=limit)
    assert "Traceback" not in done.stderr
    assert done.returncode == ExitCode.MEMORY, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.6, 1.0, 1.5, 2.5])
def test_ctrl_c_while_libraries_load_says_nothing(after, tmp_path):
    command = [sys.executable, "-m", "ld3m_plugin", "evaluate", "nowhere"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert "Traceback" not in said
    # It may have been done before, or on its way out of Python, which then ends by the signal itself.
    assert process.returncode in (ExitCode.INTERRUPTED, ExitCode.USAGE, -signal.SIGINT)


DEVICES = ["privateuseone", "meta", "xla", "cuda:99", "cpu:5", "mps:7", "hpu", "", "CPU", "cuda:-1", "x\x1b[31m"]


@pytest.mark.parametrize("device", DEVICES, ids=repr)
def test_a_device_that_is_not_here_is_one_line(ld3m, small, device):
    outcome = ld3m("distill", *small, "--device", device, "--out", "run")
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err
    assert outcome.code == 0 or len([line for line in outcome.err.splitlines() if line.startswith("error: ")]) == 1


HOSTILE = "a\x1b[31m\x07\u202eb"


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "--data", f"imagefolder:{HOSTILE}"],
        ["distill", "--resume", HOSTILE],
        ["distill", f"--{HOSTILE}"],
        ["distill", "--config", HOSTILE],
        ["distill", "-G", HOSTILE],
        ["distill", "-G", f"{HOSTILE}=1"],
        ["distill", "--set", f"{HOSTILE}=1"],
        ["distill", "--steps", HOSTILE],
        ["evaluate", HOSTILE],
        ["plugins", "show", HOSTILE],
        ["presets", "show", HOSTILE],
        ["prior", "info", HOSTILE],
        ["prior", "convert", HOSTILE, "x"],
        ["experts", "list", "--root", HOSTILE],
        [HOSTILE],
        ["plugins", HOSTILE],
    ],
    ids=lambda words: "-".join(words[:2])[:20].encode("ascii", "replace").decode(),
)
def test_no_control_character_of_an_argument_reaches_the_terminal(ld3m, arguments):
    outcome = ld3m(*arguments)
    assert not set("\x1b\x07\u202e") & set(outcome.out + outcome.err)
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "arguments", [["distill"], ["compare"], ["evaluate", "x"], ["prior", "train", "ldm"]], ids=lambda words: words[0]
)
def test_an_out_that_is_no_utf8_is_refused_before_the_work(ld3m, tmp_path, arguments):
    outcome = ld3m(*arguments, "--out", "half\udcff")
    assert outcome.code == 2
    assert "udcff" in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_control_characters_of_a_result_are_visible(ld3m, small, tmp_path):
    outcome = ld3m("distill", *small, "--out", str(tmp_path / HOSTILE))
    assert outcome.code == 0
    assert not set("\x1b\x07\u202e") & set(outcome.out + outcome.err)
    assert visible(HOSTILE) in outcome.out

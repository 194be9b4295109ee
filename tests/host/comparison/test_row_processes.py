"""Rows in processes of their own: the same bytes however many at a time, and no process outlives the command."""

import json
import signal
import subprocess
import sys
import time
from hashlib import sha256

import pytest

from ld3m_plugin.comparison.manifest import Manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def arguments(pieces, site, two_epochs, monkeypatch):
    """`ld3m compare` with two rows, in processes that find the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(site.folder))
    return [
        *(sys.executable, "-m", "ld3m_plugin", "compare", "--generators", "scaled,pixel", "--objectives", "level"),
        *("--data", "tiny", "--steps", "40", "--protocol", two_epochs, "--networks", "Linear", "--repeats", "1"),
        *("--no-random-real", "--controls", "none"),
    ]


def digests(folder):
    """SHA-256 of each row's images and accuracies, by label."""
    manifest, found = Manifest.read(folder), {}
    for row in manifest.rows:
        distilled = manifest.run_folder(row) / "distilled"
        results = json.loads((distilled / "metadata.json").read_text())["results"]["final"]["rows"]
        content = (distilled / "images.safetensors").read_bytes() + json.dumps(results).encode()
        found[row.label] = sha256(content).hexdigest()
    return found


def test_the_number_of_processes_changes_no_bits(arguments, tmp_path):
    for jobs in (1, 2):
        subprocess.run([*arguments, "--jobs", str(jobs), "--out", str(tmp_path / str(jobs))], check=True)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one == two
    assert len(set(one.values())) == len(one) == 2


def wait_for(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def begun(folder):
    return list((folder / "rows").glob("*/metrics.jsonl"))


def at_work(folder):
    """Rows whose process holds its lock."""
    manifest = Manifest.read(folder)
    return [row for row in manifest.rows if manifest.progress(row) == "running"]


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_processes_end_with_the_command_and_the_same_command_goes_on(arguments, tmp_path, end):
    # Not SIGINT, which is ignored where the tests themselves run in the background of a shell.
    folder = tmp_path / "out"
    # More steps than can be made until the signal comes.
    command = [
        *arguments,
        "--generators",
        "scaled",
        "--seeds",
        "0,1",
        "--steps",
        "3000",
        "--jobs",
        "2",
        "--out",
        str(folder),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(begun(folder)) == 2)
    process.send_signal(getattr(signal, end))
    _, told = process.communicate(timeout=120)
    if end == "SIGKILL":
        wait_for(lambda: not at_work(folder))
    else:
        assert process.returncode == 130
        assert "stopping: " in told.splitlines()[-2]  # at once, before rows have ended
        assert told.rstrip().endswith("the same command goes on")
        assert not at_work(folder)
    manifest = Manifest.read(folder)
    states = [manifest.state(row) for row in manifest.rows]
    assert sorted(state.progress for state in states) == ["stopped", "stopped"]
    subprocess.run(command, check=True)
    assert sorted(manifest.state(row).starts for row in manifest.rows) == [2, 2]
    assert all(manifest.state(row).progress == "finished" for row in manifest.rows)


def test_a_stopped_comparison_has_the_tables_of_its_finished_rows(arguments, tmp_path):
    folder = tmp_path / "out"
    command = [*arguments, "--seeds", "0,1", "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    states = folder / "states"
    wait_for(lambda: any(json.loads(path.read_text())["progress"] == "finished" for path in states.glob("*.json")))
    process.terminate()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    finished = len(Manifest.read(folder).by_progress()["finished"])
    assert 1 <= finished < 4
    assert f"{finished} of 4 rows are finished: {folder / 'table.md'}" in told.replace("\n", " ")
    assert len((folder / "seeds.csv").read_text().splitlines()) == 1 + finished
    assert (folder / "table.md").read_text().startswith("| generator |")


def test_a_row_that_another_process_makes_is_left_to_it(arguments, tmp_path):
    folder = tmp_path / "out"
    subprocess.run([*arguments, "--steps", "1", "--out", str(folder)], check=True)
    manifest = Manifest.read(folder)
    row = manifest.rows[0]
    manifest.update(row, progress="left")
    holder = f"""
import sys, time
from pathlib import Path
from ld3m_plugin.storage import locked
with locked(Path({str(manifest.lock(row))!r}), Path("."), "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    ended = subprocess.run([sys.executable, "-m", "ld3m_plugin", "compare", "row", str(folder), row.id], check=False)
    other.communicate("")
    assert ended.returncode == 75
    assert manifest.state(row).starts == 1


def test_a_launcher_of_a_plugin_is_chosen_by_name(site, arguments, tmp_path):
    source = """
from ld3m_plugin import hookimpl
from ld3m_plugin.launchers.local import LocalLauncher


class Backwards(LocalLauncher):
    def start(self, jobs, folder):
        super().start(jobs[::-1], folder)


@hookimpl
def register_launchers(register):
    register("backwards", Backwards)
"""
    site.add("backwards", {"backwards": source})
    told = subprocess.run(
        [*arguments, "--steps", "1", "--launcher", "backwards", "--out", str(tmp_path / "out")],
        check=True,
        stderr=subprocess.PIPE,
        text=True,
    ).stderr
    ended = [line.split("-level")[0] for line in told.splitlines() if line.endswith(": finished")]
    assert ended == ["pixel", "scaled"]
    assert list((tmp_path / "out" / "launcher").iterdir()) == []

"""Two runs of `scripts/soak.py`, and that it would notice a difference."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")  # POSIX
SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture
def differences(monkeypatch):
    """`differences` of the script."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("soak").differences
    for name in ("soak", "soak_process"):
        sys.modules.pop(name)


@pytest.fixture
def folders(tmp_path):
    """Two equal folders of the kinds of files that a run has."""
    one = tmp_path / "one"
    (one / "distilled").mkdir(parents=True)
    (one / "distilled" / "images.safetensors").write_bytes(b"\0\1\2")
    (one / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 3}\n')
    (one / "distilled" / "metadata.json").write_text('{"results": {"final": {"mean": 10.0, "seconds": 1}}}')
    return one, shutil.copytree(one, tmp_path / "other")


def test_times_and_what_a_kill_left_are_no_differences(differences, folders):
    one, other = folders
    assert differences(one, other) == []
    (other / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 4}\n')
    (other / "distilled" / "metadata.json").write_text('{"results": {"final": {"mean": 10.0, "seconds": 2}}}')
    (other / ".config.yaml.partial").touch()
    assert differences(one, other) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("distilled/images.safetensors", b"\0\1\3"),
        ("metrics.jsonl", b'{"step": 1, "loss": 2.5, "seconds": 3}\n'),
        ("distilled/metadata.json", b'{"results": {"final": {"mean": 11.0, "seconds": 1}}}'),
        ("distilled/grid.png", b""),
    ],
    ids=["images", "metrics", "results", "one too many"],
)
def test_everything_else_is_a_difference(differences, folders, name, content):
    one, other = folders
    (other / name).write_bytes(content)
    for found in (differences(one, other), differences(other, one)):
        assert len(found) == 1
        assert found[0].startswith(f"{name} ")


@pytest.mark.slow
def test_killed_runs_end_as_if_nobody_had_killed_them(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "soak.py", "--runs", "2", "--jobs", "1", "--out", tmp_path / "soak"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (tmp_path / "soak").glob("results-*.jsonl")
    results = [json.loads(line) for line in record.read_text().splitlines()]
    assert {result["number"] for result in results} == {0, 1}
    for result in results:
        assert any(within for _, within in result["kills"])
        assert result["problems"] == []

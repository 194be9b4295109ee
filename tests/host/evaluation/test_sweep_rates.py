"""`scripts/sweep_rates.py`: which training images take the place of the test set."""

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from ld3m_plugin.errors import UsageError
from ld3m_plugin.evaluation.table import Row
from ld3m_plugin.testing import tiny_task

SCRIPT = Path(__file__).parents[3] / "scripts" / "sweep_rates.py"


@pytest.fixture(scope="module")
def split(load_script):
    return load_script("sweep_rates").split


def images(of, k):
    return [tuple(image.flatten().tolist()) for image in of.read(k, torch.arange(of.counts()[k]))]


def test_random_images_are_tested_on_and_no_longer_trained_on(split):
    task = tiny_task()
    parts = split(task, 2)
    for k, count in enumerate(task.train.counts()):
        kept, held = images(parts.train, k), images(parts.test_images, k)
        assert (len(kept), len(held)) == (count - 2, 2)
        assert sorted(kept + held) == sorted(images(task.train, k))
    assert images(split(task, 2).test_images, 0) == images(parts.test_images, 0)


def test_images_that_the_data_set_names_are_tested_on(split):
    task = tiny_task()
    named = replace(task, held_out=tuple((1, 3) for _ in task.train.counts()))
    parts = split(named, None)
    for k in range(task.num_classes):
        assert images(parts.test_images, k) == [images(task.train, k)[i] for i in (1, 3)]
        assert not set(images(parts.train, k)) & set(images(parts.test_images, k))
    assert len(images(split(named, 1).test_images, 0)) == 1  # a number asks for random ones
    assert split(named, 1).held_out is None


def test_what_leaves_nothing_is_refused(split):
    task = tiny_task()
    for count in (0, min(task.train.counts()), None):
        with pytest.raises(UsageError, match="--held-out"):
            split(task, count)
    with pytest.raises(UsageError, match=r"held out.*--held-out N"):
        split(replace(task, held_out=((),) * task.num_classes), None)


def test_a_refusal_is_one_line_that_says_what_to_type():
    command = [sys.executable, str(SCRIPT), "--data", "emoji", "-D", "split=equal-data", "--ipc", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "--held-out N" in ended.stderr.splitlines()[-1]


def test_a_file_has_each_networks_accuracy_and_what_diverged(load_script, tmp_path):
    script, path = load_script("sweep_rates"), tmp_path / "sweep.csv"
    row = Row("random real", "MLP", (50.0, 33.33333), diverged=(1,))
    for rate in ("0.01", "0.1"):
        script.begin(path)  # a second sweep goes on in the file
        script.write(path, ("emoji", "held out by the data set", "unseen", 0, "MLP", 10, 200, "none", rate), row)
    assert path.read_text().splitlines() == [
        "data,tested_on,protocol,bf16,network,images_per_class,epochs,clip,rate,repeat,accuracy,diverged",
        "emoji,held out by the data set,unseen,0,MLP,10,200,none,0.01,0,50.0,0",
        "emoji,held out by the data set,unseen,0,MLP,10,200,none,0.01,1,33.3333,1",
        "emoji,held out by the data set,unseen,0,MLP,10,200,none,0.1,0,50.0,0",
        "emoji,held out by the data set,unseen,0,MLP,10,200,none,0.1,1,33.3333,1",
    ]


def test_cells_are_compared_network_by_network(load_script):
    rows = {
        0.01: Row("random real", "MLP", (40.0, 50.0, 60.0)),
        0.02: Row("random real", "MLP", (41.0, 52.0, 63.0)),
        0.1: Row("random real", "MLP", (10.0, 10.0, 60.0), diverged=(0, 1)),
    }
    # Differences 1, 2, 3: mean 2, deviation 1; t of two degrees of freedom 4.303, over the root of 3.
    expected = ["50.0 +- 10.0 (n=3)", "52.0 +- 11.0 (n=3), +2.0 (-0.5 to +4.5)", "26.7 +- 28.9 (n=3, 2 diverged)"]
    assert load_script("sweep_rates").texts(rows, 0.01) == expected
    assert load_script("sweep_rates").texts(rows, 0.5) == [str(row) for row in rows.values()]


@pytest.mark.parametrize("content", ["network,accuracy\n", "no newline"])
def test_another_file_is_not_written_to(load_script, tmp_path, content):
    script, path = load_script("sweep_rates"), tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match="give another name"):
        script.begin(path)
    assert path.read_text() == content
    with pytest.raises(UsageError, match="--csv"):
        script.begin(tmp_path / "nowhere" / "sweep.csv")


def test_a_sweep_prints_a_row_and_keeps_its_networks(load_script, tmp_path, capsys, monkeypatch):
    path = tmp_path / "sweep.csv"
    command = f"sweep_rates.py --networks MLP --ipc 1 --epochs 1 --rates 0.01,0.02 --seeds 2 --clip 1 --csv {path}"
    monkeypatch.setattr("sys.argv", shlex.split(command))
    load_script("sweep_rates").main()
    heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.split(" | ")[:6] == ["| network", "images a class", "epochs", "clip", "0.01", "0.02"]
    assert row.startswith("| MLP | 1 | 1 | 1.0 |")
    lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [line[:10] for line in lines] == [
        ["fashion-mnist:embedded", "100 random a class", "unseen", "0", "MLP", "1", "1", "1.0", rate, str(repeat)]
        for rate in ("0.01", "0.02")
        for repeat in range(2)
    ]
    means = [f"{fmean(float(line[10]) for line in lines[i : i + 2]):.1f} +- " for i in (0, 2)]
    assert all(mean in row for mean in means)

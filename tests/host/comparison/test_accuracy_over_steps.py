"""`scripts/accuracy_over_steps.py`: means over networks and seeds at the steps that all seeds have."""

import csv
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from ld3m_plugin.comparison.seed_table import SEEDS
from ld3m_plugin.errors import HostError

SCRIPT = Path(__file__).parents[3] / "scripts" / "accuracy_over_steps.py"


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("accuracy_over_steps")


def test_a_comparison_gives_each_step_the_mean_over_networks_a_number_for_each_seed(
    script, made, grid, plain, tmp_path
):
    between = {"evaluation": {**plain["evaluation"], "every": 2}}
    made(grid("scaled", seeds=[0, 1], config=between, vary={"generator.options.factor": [2, 3]}))
    found = script.read_folder(tmp_path / "out")
    assert list(found) == ["scaled+level factor=2", "scaled+level factor=3"]
    means = script.over_steps(found, ["Linear", "Deeper"])
    assert [list(steps) for steps in means.values()] == [[2, 4]] * 2
    with (tmp_path / "out" / SEEDS).open(encoding="utf-8", newline="") as file:
        ends = [line for line in csv.DictReader(file) if line["generator.options.factor"].startswith("3")]
    for name, place in (("0", 0), ("1", 1)):
        (end,) = [line for line in ends if line["seed"] == name]
        assert means["scaled+level factor=3"][4][place] == pytest.approx(
            fmean(float(end[n]) for n in ("Linear", "Deeper"))
        )
    script.write_csv(found, ["Linear", "Deeper"], tmp_path / "steps.csv")
    again = script.read_csv(tmp_path / "steps.csv")
    assert again.keys() == found.keys()
    assert again["scaled+level factor=2"][1][4] == pytest.approx(found["scaled+level factor=2"][1][4], abs=1e-4)


def test_steps_that_a_seed_lacks_are_left_out(script, tmp_path):
    file = tmp_path / "steps.csv"
    file.write_text("pictures,seed,step,A,B\nld3m+dm,0,25,10,30\nld3m+dm,0,50,20,40\nld3m+dm,1,50,40,60\n")
    assert script.over_steps(script.read_csv(file), ["A"]) == {"ld3m+dm": {50: [20.0, 40.0]}}
    assert script.over_steps(script.read_csv(file), ["A", "B"]) == {"ld3m+dm": {50: [30.0, 50.0]}}


def test_differences_are_paired_by_seed_at_the_steps_that_both_have(script, tmp_path, capsys):
    file = tmp_path / "steps.csv"
    ours = ["ld3m+dm,0,25,10,30", "ld3m+dm,1,25,14,30", "ld3m+dm,0,50,50,50", "ld3m+dm,1,50,50,50", "ld3m+dm,2,25,9,9"]
    theirs = ["pixel+dm,1,25,11,10", "pixel+dm,0,25,9,10"]
    file.write_text("\n".join(["pictures,seed,step,A,B", *ours, *theirs, ""]))
    made = script.differences(script.read_csv(file), ["A"])["ld3m+dm - pixel+dm"]
    assert {step: (value.mean, value.n) for step, value in made.items()} == {25: (2.0, 2)}  # of 10 - 9 and 14 - 11
    # t of one degree of freedom, 12.706, times the deviation sqrt(2) over sqrt(2)
    assert made[25].interval() == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    file.write_text("\n".join(["pictures,seed,step,A,B", *ours, "pixel+dm,7,25,11,10", ""]))
    script.print_differences({"A": script.differences(script.read_csv(file), ["A"])})
    assert capsys.readouterr().out == ""  # no seed is shared


def test_the_command_prints_both_parts_and_draws_them(tmp_path):
    file, plot = tmp_path / "steps.csv", tmp_path / "steps.png"
    file.write_text("pictures,seed,step,ConvNet,MLP\nld3m+dm,0,25,10,30\nld3m+dm,1,25,12,30\npixel+dm,0,25,1,2\n")
    command = [sys.executable, str(SCRIPT), str(file), "--plot", str(plot)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout.splitlines()
    assert printed[2:] == [
        "| ConvNet | ld3m+dm | 2 | 11.0 ± 1.4 |",
        "| ConvNet | pixel+dm | 1 | 1.0 |",
        "| MLP | ld3m+dm | 2 | 30.0 ± 0.0 |",
        "| MLP | pixel+dm | 1 | 2.0 |",
        "",
        "| networks | difference | 25 |",
        "| --- | --- | ---: |",
        "| ConvNet | ld3m+dm - pixel+dm | +9.0 |",
        "| MLP | ld3m+dm - pixel+dm | +28.0 |",
    ]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_data_or_numbers_of_images_that_have_no_mean_are_refused(script, made, grid, plain, tmp_path):
    between = {"evaluation": {**plain["evaluation"], "every": 2}}
    made(grid("scaled", images_per_class=[1, 2], config=between, random_real=False))
    with pytest.raises(HostError, match="several"):
        script.read_folder(tmp_path / "out")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "pictures,seed\nld3m+dm,0\n",
        "pictures,seed,step,ConvNet\nld3m+dm,0,25,\n",
        "pictures,seed,step,A\nx,0,25,1\n",
    ],
    ids=["nothing", "no steps", "an empty cell", "no network of the distillation"],
)
def test_what_cannot_be_read_is_one_line(tmp_path, given):
    file = tmp_path / "steps.csv"
    file.write_text(given)
    ended = subprocess.run([sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_a_folder_that_is_no_comparison_is_one_line(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr.splitlines()[-1]

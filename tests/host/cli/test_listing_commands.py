"""`ld3m runs`, `show`, `protocols` and `config`: what they print of real runs, and of folders that are none."""

import json
import shutil

import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ld3m_plugin import DistilledSet
from ld3m_plugin.cli import app
from ld3m_plugin.cli.half_blocks import lines_of_pictures
from ld3m_plugin.config import RunConfig, resolve
from ld3m_plugin.evaluation.protocols import QUICK, get_protocol
from ld3m_plugin.runs import run
from ld3m_plugin.testing import tiny_task


def printed(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finished run of two steps, and a copy that was stopped after them."""
    root = tmp_path_factory.mktemp("runs")
    settings = [("generator.name", "pixel"), ("objective.options.batch_real", 4), ("steps", 2)]
    settings += [("objective.options.network_settings", {"width": 4, "depth": 1}), ("evaluation.final", False)]
    run.start(resolve(settings=settings), root / "done", task=tiny_task())
    shutil.copytree(root / "done", root / "stopped")
    shutil.rmtree(root / "stopped" / "distilled")
    (root / "notes").mkdir()
    return root


def test_runs_say_how_far_they_are(runs):
    found = json.loads(printed("runs", runs, "--json"))
    assert [(line["path"], line["status"], line["progress"]) for line in found] == [
        (str(runs / "done"), "finished", "2/2"),
        (str(runs / "stopped"), "stopped", "2/2"),
    ]
    text = printed("runs", runs)
    assert "pixel+dm on fashion-mnist, 1 a class, seed 0" in text


def test_an_accuracy_is_the_mean_over_architectures(runs, tmp_path):
    shutil.copytree(runs / "done", tmp_path / "run")
    file = tmp_path / "run" / "distilled" / "metadata.json"
    rows = [
        {"images": "distilled", "mean": 40.0},
        {"images": "distilled", "mean": 60.0},
        {"images": "random real", "mean": 1},
    ]
    final = {"rows": rows, "protocol": {"name": "quick"}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "results": {"final": final}}))
    (found,) = json.loads(printed("runs", tmp_path, "--json"))
    assert (found["accuracy"], found["protocol"]) == (50.0, "quick")
    file.write_text("[1")
    assert json.loads(printed("runs", tmp_path, "--json"))[0]["status"] == "damaged"


def test_without_runs_the_json_is_an_empty_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["runs", "--json"]).output == "[]\n"


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(app, ["runs", str(tmp_path / "none")])
    assert result.exit_code != 0


def test_show_prints_pictures_and_numbers(runs):
    lines = printed("show", runs / "done", "--width", 8).splitlines()
    assert lines[4].split() == ["class", "0", "class", "1", "class", "2"]
    assert any(line.split() == ["generator", "pixel"] for line in lines)
    assert json.loads(printed("show", runs / "done", "--json"))["classes"] == ["class 0", "class 1", "class 2"]


def test_a_half_block_is_two_pixels():
    picture = torch.zeros(1, 3, 2, 2)
    picture[0, 0, 0] = 1.0  # red above black
    colours = Console(force_terminal=True, color_system="truecolor", width=80)
    line, name = lines_of_pictures(picture, ["a"], colours, side=2)
    assert (line.plain, name.plain) == ("▀▀", "a")
    style = line.spans[0].style
    assert (style.color.triplet, style.bgcolor.triplet) == ((255, 0, 0), (0, 0, 0))
    plain = Console(color_system=None, width=80)
    assert lines_of_pictures(torch.ones(1, 1, 2, 2), ["a"], plain, side=2)[0].plain == "██"
    assert len(lines_of_pictures(torch.ones(5, 1, 2, 2), list("abcde"), Console(width=6), side=2)) == 3 * 2


def test_a_run_leaves_a_strip_of_start_and_now(runs):
    assert (runs / "done" / "start-now.png").stat().st_size


def test_protocols_print_what_a_file_of_ones_own_starts_from(tmp_path):
    assert "quick" in printed("protocols")
    (tmp_path / "mine.yaml").write_text(printed("protocols", "show", "quick").replace("name: quick", "name: mine"))
    assert get_protocol(str(tmp_path / "mine.yaml")) == QUICK.model_copy(update={"name": "mine"})


def test_a_written_configuration_is_the_default_one(tmp_path):
    file = tmp_path / "run.yaml"
    printed("config", "init", file)
    assert resolve([file]) == RunConfig()
    assert "# updates of the latents" in file.read_text()
    assert CliRunner().invoke(app, ["config", "init", str(file)]).exit_code != 0  # never overwritten
    with_preset = yaml.safe_load(printed("config", "init", "--preset", "demo"))
    assert with_preset["steps"] == resolve(presets=["demo"]).steps


def test_the_schema_knows_every_setting():
    assert json.loads(printed("config", "schema"))["properties"].keys() == RunConfig.model_fields.keys()


def test_objects_print_as_a_line(runs):
    distilled = DistilledSet.load(runs / "done")
    assert repr(distilled) == "DistilledSet(3 images of 1x16x16, 3 classes, pixel, dm, fashion-mnist)"
    task = repr(tiny_task())
    assert task.startswith("Task('tiny', 3 classes, ")
    assert "\n" not in task

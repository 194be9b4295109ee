"""A third-party distribution, as pip would leave it: its backends run with the built-ins, through the command line."""

import json
import tomllib
from pathlib import Path

import pytest

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.testing import check_generator, check_objective, tiny_task

EXAMPLE = Path(__file__).parents[1] / "example_plugin"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FAMILY = {"example-upsample", "example-moments"}


@pytest.fixture
def example(site):
    """The example plugin, installed by its own pyproject into a throw-away site folder."""
    modules = {str(path.relative_to(EXAMPLE)): path.read_text(encoding="utf-8") for path in EXAMPLE.rglob("*.py")}
    points = PROJECT["entry-points"]["ld3m_plugin"]
    return site.add(PROJECT["name"], modules, entry_points=points, version=PROJECT["version"])


@pytest.mark.parametrize(
    ("generator", "objective"),
    [("example-upsample", "dm"), ("pixel", "example-moments"), ("example-upsample", "example-moments")],
)
def test_the_example_runs_with_the_built_ins_and_with_itself(
    example, new_process, small, small_dm, tmp_path, generator, objective
):
    options = small_dm if objective == "dm" else []
    done = new_process(
        *("-m", "ld3m_plugin", "distill", *small, *options, "-g", generator, "-o", objective, "--out", "run"),
        site=example,
    )
    assert done.returncode == 0, done.stderr
    distilled = DistilledSet.load(tmp_path / "run")
    assert tuple(distilled.images.shape) == (10, 1, 32, 32)
    for kind, name in (("generator", generator), ("objective", objective)):
        distribution = "ld3m-example 0.1.0" if name in FAMILY else "ld3m-plugin"
        assert distilled.metadata[kind]["name"] == name
        assert distribution in distilled.metadata[kind]["distribution"]
    learned = (16, 16) if generator == "example-upsample" else (32, 32)
    assert [tuple(tensor.shape[-2:]) for tensor in distilled.latents.tensors().values()] == [learned]
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, True), ("", False), ("ld3m-example", True), ("example", True), ("another", False)]
)
def test_the_list_shows_who_brought_what(example, ld3m, monkeypatch, value, shown):
    if value is None:
        monkeypatch.delenv("LD3M_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("LD3M_PLUGINS", value)
    outcome = ld3m("plugins", "--json")
    assert outcome.code == 0
    rows = {row["name"]: row for row in json.loads(outcome.out)}
    assert (set(rows) >= FAMILY) == shown
    assert rows["pixel"]["distribution"] == "ld3m-plugin"
    if shown:
        assert rows["example-upsample"] | {"summary": ""} == {
            "name": "example-upsample",
            "kind": "generator",
            "distribution": "ld3m-example",
            "version": "0.1.0",
            "status": "ok",
            "summary": "",
        }


def test_its_options_are_shown_and_checked(example, ld3m, small):
    shown = ld3m("plugins", "show", "example-upsample")
    assert shown.code == 0
    assert "plugin 'example' of ld3m-example 0.1.0" in shown.out
    assert "factor: int, >= 1 = 2\n      image pixels for each learned pixel" in shown.out
    assert "did you mean 'factor'" in ld3m("distill", *small, "-g", "example-upsample", "-G", "factr=2").error
    refused = ld3m("distill", *small, "-g", "example-upsample", "-G", "factor=5", "--out", "run")
    assert (refused.code, refused.error) == (2, "error: factor 5 does not divide the image size 32")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [1, 4])
def test_the_generator_keeps_the_contract(example, channels, factor):
    from ld3m_example.backends import Upsample

    check_generator(lambda: Upsample(factor=factor), tiny_task(channels=channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_objective_keeps_the_contract(example, channels):
    from ld3m_example.backends import Moments

    check_objective(lambda: Moments(batch_real=8), tiny_task(channels=channels))


def test_a_broken_neighbour_is_a_warning_and_the_run_goes_on(example, ld3m, small):
    example.add("a-broken-plugin", {"broken": "import a_module_nobody_has"}, version="2.5")
    outcome = ld3m("distill", *small, "-g", "example-upsample", "-o", "example-moments")
    assert outcome.code == 0, outcome.err
    assert "warning: plugin 'broken' of a-broken-plugin 2.5 failed: does not import: ModuleNotFoundError" in outcome.err
    listed = ld3m("plugins")
    assert listed.code == 0
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("broken")]
    assert row[:5] == ["broken", "plugin", "a-broken-plugin", "2.5", "failed"]

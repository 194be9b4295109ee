"""What `ld3m plugins new` writes, as pip would leave it: its backends run with the built-ins, through the command line."""

import json
import tomllib

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.plugin_template.new_plugin import plugin_files
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import use_registry
from ld3m_plugin.testing import check_generator, check_initialiser, check_objective, tiny_task

EXAMPLE = plugin_files("example")
PROJECT = tomllib.loads(EXAMPLE["pyproject.toml"])["project"]
BACKENDS = {"example-upsample", "example-moments"}
FAMILY = {
    *BACKENDS,
    *(
        "example-median",
        "example-stripes",
        "example-mlp",
        "example-fade",
        "example-short",
        "example-csv",
        "example-count",
    ),
}


@pytest.fixture
def example(site):
    """The template's distribution, installed by its own pyproject into a throw-away site folder."""
    modules = {path: text for path, text in EXAMPLE.items() if path.startswith("ld3m_example/")}
    points = PROJECT["entry-points"]["ld3m_plugin"]
    return site.add(PROJECT["name"], modules, entry_points=points, version=PROJECT["version"])


@pytest.mark.slow
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
        distribution = "ld3m-example 0.1.0" if name in BACKENDS else "ld3m-plugin"
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
    from ld3m_example.generators import Upsample

    check_generator(lambda: Upsample(factor=factor), tiny_task(channels=channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_objective_keeps_the_contract(example, channels):
    from ld3m_example.objectives import Moments

    check_objective(lambda: Moments(batch_real=8), tiny_task(channels=channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_initialiser_keeps_the_contract(example, channels):
    from ld3m_example.initialisers import Median

    check_initialiser(lambda: Median(most=5), tiny_task(channels=channels))


def test_a_built_in_starts_from_the_examples_initialiser(example, load):
    from ld3m_plugin.backends import get_generator

    task, labels = tiny_task(train=5), torch.tensor([0, 2])
    pixel = get_generator("pixel", registry=load(), init="example-median", init_options={"most": 3})
    with use_registry(load()):
        pixel.prepare(task)
        pixels = pixel.initial_latents(task, labels, stream(0, "latents"))["pixels"]
    medians = torch.stack([task.train.read(k, torch.arange(3)).sort(0).values[1] for k in (0, 2)])
    torch.testing.assert_close(pixels, task.normalise(medians))
    assert pixel.start() == "class medians"
    assert pixel.provenance().keys() == {"init_options_sha256"}


def test_a_broken_neighbour_is_a_warning_and_the_run_goes_on(example, ld3m, small):
    example.add("a-broken-plugin", {"broken": "import a_module_nobody_has"}, version="2.5")
    outcome = ld3m("distill", *small, "-g", "example-upsample", "-o", "example-moments")
    assert outcome.code == 0, outcome.err
    assert "warning: plugin 'broken' of a-broken-plugin 2.5 failed: does not import: ModuleNotFoundError" in outcome.err
    listed = ld3m("plugins")
    assert listed.code == 0
    (row,) = [line.split() for line in listed.out.splitlines() if line.startswith("broken")]
    assert row[:5] == ["broken", "plugin", "a-broken-plugin", "2.5", "failed"]


def test_every_kind_of_the_example_takes_part_in_one_run(example, ld3m, tmp_path):
    run = ld3m(
        *("distill", "--data", "example-stripes", "-D", "per_class=6", "-D", "noise=0.3"),
        *("-g", "example-upsample", "-o", "dm", "-O", "network=example-mlp", "-O", "network_settings={hidden: 8}"),
        *("-O", "batch_real=4", "-O", "dsa=example-fade_flip", "--steps", "3", "--protocol", "example-short"),
        *("--set", "trackers=[{name: example-csv, options: {file: table.csv}}]", "--out", "run"),
    )
    assert run.code == 0, run.err
    distilled = DistilledSet.load(tmp_path / "run")
    assert distilled.class_names == ["vertical", "horizontal"]
    recorded = distilled.metadata["config"]
    assert recorded["data"]["options"]["per_class"] == 6
    assert recorded["trackers"] == [{"name": "example-csv", "options": {"file": "table.csv"}}]
    assert distilled.metadata["results"]["final"]["protocol"]["name"] == "example-short"
    assert [line.split(",")[0] for line in (tmp_path / "run" / "table.csv").read_text().splitlines()] == [
        "step",
        "1",
        "2",
        "3",
    ]
    again = ld3m("evaluate", "run", "--protocol", "example-short", "--no-random-real", "--json")
    assert again.code == 0, again.err
    (row,) = json.loads(again.out)["rows"]
    assert row["network"] == "example-mlp"


def test_its_data_set_refuses_what_it_does_not_take(example, ld3m, small):
    refused = ld3m("distill", *small, "--data", "example-stripes:angle")
    assert (refused.code, "'angle'" in refused.error) == (2, True)


def test_the_examples_command_is_a_sub_command(example, ld3m):
    assert "Count the images of a data set by class." in ld3m("--help").out
    assert ld3m("example-count", "example-stripes").out == "vertical: 24\nhorizontal: 24\n"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-D", "per_klass=3"], "per_class"),
        (["-D", "test_fraction=0.5"], "test_fraction"),
        (["-D", "noise=2"], "noise"),
        (["--set", "trackers=[{name: example-csv, options: {fil: x}}]"], "file"),
        (["--protocol", "example-shrt"], "example-short"),
        (["-O", "dsa=example-fad_flip"], "example-fade"),
        (["-O", "network=example-mlp", "-O", "network_settings={hiden: 8}"], "hidden"),
    ],
)
def test_options_of_every_kind_are_checked(example, ld3m, tmp_path, words, name):
    refused = ld3m("distill", "--data", "example-stripes", "-g", "pixel", "-O", "batch_real=4", *words, "--out", "run")
    assert refused.code == 2
    assert name in refused.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "option"), [("example-stripes", "per_class"), ("example-mlp", "hidden"), ("example-csv", "file")]
)
def test_options_of_every_kind_are_shown(example, ld3m, name, option):
    shown = ld3m("plugins", "show", name)
    assert shown.code == 0
    assert f"  {option}: " in shown.out
    assert "test_fraction" not in shown.out

"""`compare`: one table of several runs, each made once, whatever stops it; and refusals of what cannot be compared."""

import importlib
import json
import re
import signal
from dataclasses import replace

import pytest
import torch
import yaml
from PIL import Image

from ld3m_plugin import presets
from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import completed
from ld3m_plugin.comparison.table import pictures as _pictures
from ld3m_plugin.comparison.runner import compare, configurations
from ld3m_plugin.config import resolve
from ld3m_plugin.errors import ArtefactError, HostError, UnknownBackendError, UsageError
from ld3m_plugin.evaluation import RANDOM_REAL
from ld3m_plugin.registry import use_registry
from ld3m_plugin.runs import run
from ld3m_plugin.testing import tiny_task

# What a third party may bring: two generators, an objective, a network and data that take no time at all.
PIECES = """
import signal

import torch
from pydantic import Field

from ld3m_plugin import DifferentiableObjective, Generator, Latents, Network, hookimpl
from ld3m_plugin.contracts import Options
from ld3m_plugin.errors import HostError
from ld3m_plugin.testing import tiny_task


class Options(Options):
    factor: float = Field(2.0, gt=0, description="latents are multiplied with it")


class Scaled(Generator):
    Options = Options
    end, end_at = None, None  # how, and in which step, a run of this generator ends
    prior = "first"
    prepared = 0

    def prepare(self, task):
        type(self).prepared += 1
        if self.options.factor > 100:
            raise HostError("factor is too large: lower it")

    def initial_latents(self, task, labels, rng):
        shape = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({"w": torch.randn(shape, generator=rng)}, ("w",))

    def render(self, latents):
        return latents["w"] * self.options.factor

    def on_step(self, latents, step, rng):
        if step == type(self).end_at:
            if self.end == "sigterm":
                signal.raise_signal(signal.SIGTERM)
            raise KeyboardInterrupt if self.end == "ctrl-c" else HostError("the disk is full: make room")
        return latents

    def learning_rates(self):
        return {"w": 0.1}

    def provenance(self):
        return {"prior_sha256": self.prior}


class Other(Scaled):
    end, end_at = None, None


class Level(DifferentiableObjective):
    experts = "first"

    def provenance(self):
        return {"experts_sha256": self.experts}

    class Options(Options):
        level: float = Field(0.0, description="what every pixel should be")

    def loss(self, images, labels, step):
        return (images - self.options.level).square().mean() + 0 * torch.rand(1, generator=self.rng).sum()


class Linear(Network):
    def __init__(self, channels, image_size, num_classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images):
        return self.last(images.flatten(1))


class Deeper(Linear):
    pass


@hookimpl
def register_generators(register):
    register("scaled", Scaled)
    register("other", Other)


@hookimpl
def register_objectives(register):
    register("level", Level)


@hookimpl
def register_networks(register):
    register("Linear", Linear)
    register("Deeper", Deeper)


@hookimpl
def register_datasets(register):
    register("tiny", lambda argument, options: tiny_task(image_size=8, train=int(argument or 12), test=20))
"""
TASK = tiny_task(image_size=8, test=20)


@pytest.fixture
def pieces(site):
    """The module of the backends above, installed."""
    site.add("pieces", {"pieces": PIECES})
    return importlib.import_module("pieces")


@pytest.fixture
def registry(pieces, load):
    with use_registry(load()) as registry:
        yield registry


@pytest.fixture
def plain(two_epochs):
    """Settings that all compared runs share."""
    evaluation = {"protocol": two_epochs, "networks": ["Linear", "Deeper"], "repeats": 2}
    return [("data.name", "tiny"), ("objective.name", "level"), ("steps", 4), ("evaluation", evaluation)]


@pytest.fixture
def configs(plain):
    def configs(*names, **more):
        return {name: resolve(settings=[*plain, *more.items(), ("generator.name", name)]) for name in names}

    return configs


class Notes(run.Reporter):
    """Remembers what was done."""

    def __init__(self):
        self.steps, self.trained, self.said = [], [], []

    def step(self, step):
        self.steps.append((step.state.config.generator.name, step.iteration))

    def evaluating(self, what):
        self.trained.append(what)

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def compared(tmp_path, registry):
    """Compares in a folder, and gives the comparison and what was done for it."""

    def compared(configs, folder="out", task=TASK):
        notes = Notes()
        return compare(configs, tmp_path / folder, task=task, reporter=notes), notes

    return compared


def columns(comparison):
    return list(dict.fromkeys(row.images for row in comparison.table.rows))


def accuracies(comparison, images):
    return [(row.network, row.accuracies) for row in comparison.table.rows if row.images == images]


# The table ------------------------------------------------------------------------------------------------------------


def test_table_has_the_numbers_of_separate_runs_and_random_real_once(compared, configs, registry, tmp_path):
    chosen = configs("scaled", "pixel", "other")
    comparison, notes = compared(chosen)
    assert columns(comparison) == ["scaled", "pixel", "other", RANDOM_REAL]
    assert len(comparison.table.rows) == 2 * 4
    for name, config in chosen.items():
        alone = run.start(config, tmp_path / "alone" / name, task=TASK)
        rows = {kind: [(r.network, r.accuracies) for r in alone.evaluation.rows if r.images == kind] for kind in
                ("distilled", RANDOM_REAL)}  # fmt: skip
        assert accuracies(comparison, name) == rows["distilled"]
        # The same images, weights, order and augmentation stand beside every generator.
        assert accuracies(comparison, RANDOM_REAL) == rows[RANDOM_REAL]
        images = [folder / "distilled" / "images.safetensors" for folder in (alone.folder, tmp_path / "out" / name)]
        assert images[0].read_bytes() == images[1].read_bytes()
    assert len([what for what in notes.trained if RANDOM_REAL in what]) == 2 * 2


def test_what_is_written(compared, configs, tmp_path):
    comparison, _ = compared(configs("scaled", "pixel"))
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record == json.loads(json.dumps(comparison.record()))
    assert (record["protocol"]["name"], record["seed"], record["test_images"]) == ("two-epochs", 0, 60)
    assert record["data"] == TASK.source
    assert list(record["runs"]) == ["scaled", "pixel"]
    scaled = record["runs"]["scaled"]
    assert (scaled["folder"], scaled["generator"]) == ("scaled", {"name": "scaled", "options": {"factor": 2.0}})
    assert scaled["learning_rates"] == {"w": 0.1}
    steps = [json.loads(line) for line in (tmp_path / "out" / "scaled" / "metrics.jsonl").read_text().splitlines()]
    total = sum(record["seconds"] for record in steps if "loss" in record)
    assert scaled["seconds"]["distillation"] == round(total, 1)
    assert record["seconds"] == pytest.approx(sum(run["seconds"]["evaluation"] for run in record["runs"].values()))
    # Pixels of 8 are enlarged 12 times; three images and two rows with gaps of 4.
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.size == (3 * 100 + 4, 2 * 100 + 4)
    assert not list((tmp_path / "out").glob(".*"))


def test_random_real_images_can_be_left_out(compared, configs):
    comparison, notes = compared(configs("scaled", "pixel", **{"evaluation.random_real": False}))
    assert columns(comparison) == ["scaled", "pixel"]
    assert not [what for what in notes.trained if RANDOM_REAL in what]


@pytest.mark.parametrize(
    ("classes", "per_class", "expected"), [(3, 1, [0, 1, 2]), (3, 5, [0, 0, 0, 1, 1, 1, 2, 2, 2]), (12, 2, range(10))]
)
def test_pictures_are_in_the_order_of_classes(classes, per_class, expected):
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = (labels / 20).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    metadata = {"class_names": ["x"] * classes, "mean": [0.0], "std": [1.0]}
    shown = _pictures(DistilledSet(images, labels, metadata))[:, 0, 0, 0] * 20
    assert shown.round().int().tolist() == list(expected)


# Again ----------------------------------------------------------------------------------------------------------------


def test_the_second_time_everything_is_read(compared, configs, tmp_path):
    first, _ = compared(configs("scaled", "pixel"))
    written = (tmp_path / "out" / "comparison.json").read_bytes()
    second, notes = compared(configs("scaled", "pixel"))
    assert (notes.steps, notes.trained) == ([], [])
    assert notes.said == [f"{name} is finished: read from {tmp_path / 'out' / name}" for name in ("scaled", "pixel")]
    assert (tmp_path / "out" / "comparison.json").read_bytes() == written
    assert second.table == first.table


def test_a_finished_comparison_needs_no_data(compared, configs, tmp_path, registry, monkeypatch):
    compared(configs("scaled", "pixel"))
    monkeypatch.setattr("ld3m_plugin.comparison.runner.load_task", lambda *_, **__: pytest.fail("the data was read"))
    compare(configs("scaled", "pixel"), tmp_path / "out")


@pytest.mark.parametrize("end", ["ctrl-c", "host error"])
def test_a_run_that_stopped_goes_on_and_those_before_stay(compared, configs, pieces, tmp_path, end):
    straight, _ = compared(configs("scaled", "other", "pixel"), "straight")
    pieces.Other.end, pieces.Other.end_at = end, 3
    with pytest.raises(KeyboardInterrupt if end == "ctrl-c" else HostError):
        compared(configs("scaled", "other", "pixel"))
    assert not (tmp_path / "out" / "pixel").exists()
    assert not (tmp_path / "out" / "comparison.json").exists()
    pieces.Other.end_at = None
    comparison, notes = compared(configs("scaled", "other", "pixel"))
    assert notes.steps == [("other", 3), ("other", 4), *(("pixel", step) for step in (1, 2, 3, 4))]
    assert not [what for what in notes.trained if RANDOM_REAL in what]
    assert comparison.table.rows == straight.table.rows


def test_a_run_stopped_in_its_evaluation_repeats_only_that(compared, configs, tmp_path, registry):
    class Stops(run.Reporter):
        def evaluating(self, what):
            if what.startswith("Deeper on distilled"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(configs("scaled", "pixel"), tmp_path / "out", task=TASK, reporter=Stops())
    comparison, notes = compared(configs("scaled", "pixel"))
    assert notes.steps == [("pixel", step) for step in (1, 2, 3, 4)]
    assert columns(comparison) == ["scaled", "pixel", RANDOM_REAL]


def test_generators_can_be_added_and_reordered(compared, configs):
    first, _ = compared(configs("scaled", "pixel"))
    second, notes = compared(configs("other", "pixel", "scaled"))
    assert columns(second) == ["other", "pixel", "scaled", RANDOM_REAL]
    assert {name for name, _ in notes.steps} == {"other"}
    assert not [what for what in notes.trained if RANDOM_REAL in what]
    assert accuracies(second, RANDOM_REAL) == accuracies(first, RANDOM_REAL)


def test_random_real_images_are_evaluated_where_no_run_has_them(compared, configs):
    first, _ = compared(configs("scaled", "pixel"))
    second, notes = compared(configs("pixel"))  # "scaled" had them
    assert notes.steps == []
    assert accuracies(second, RANDOM_REAL) == accuracies(first, RANDOM_REAL)
    assert accuracies(second, "pixel") == accuracies(first, "pixel")


def test_a_run_that_was_made_alone_is_taken(compared, configs, registry, tmp_path):
    config = configs("pixel")["pixel"]
    run.start(config, tmp_path / "out" / "pixel", task=TASK)
    comparison, notes = compared(configs("scaled", "pixel"))
    assert {name for name, _ in notes.steps} == {"scaled"}
    assert columns(comparison) == ["scaled", "pixel", RANDOM_REAL]
    assert len(accuracies(comparison, RANDOM_REAL)) == 2


def test_what_decides_no_result_may_change(compared, configs, pieces):
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 2
    with pytest.raises(KeyboardInterrupt):
        compared(configs("scaled"))
    pieces.Scaled.end_at = None
    _, notes = compared(configs("scaled", render_batch=1, checkpoint_every=1, device="cpu"))
    assert notes.steps == [("scaled", step) for step in (2, 3, 4)]


# Refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.name", "tiny:13", r"data\.name is 'tiny' for scaled and 'tiny:13' for pixel"),
        ("objective.options.level", 1.0, r"objective\.options\.level is 0\.0 for scaled and 1\.0 for pixel"),
        ("images_per_class", 2, "images_per_class is 1 for scaled and 2 for pixel"),
        ("steps", 5, "steps is 4 for scaled and 5 for pixel"),
        ("seed", 1, "seed is 0 for scaled and 1 for pixel"),
        ("evaluation.repeats", 1, r"evaluation\.repeats is 2 for scaled and 1 for pixel"),
        ("evaluation.test_per_class", 3, r"evaluation\.test_per_class is None for scaled and 3 for pixel"),
    ],
)
def test_what_differs_in_more_than_the_generator_is_refused(compared, configs, tmp_path, path, value, message):
    with pytest.raises(UsageError, match=message) as raised:
        compared({**configs("scaled"), **configs("pixel", **{path: value})})
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_optimisers_and_options_may_differ(compared, configs, plain):
    sgd = [("optimizer.name", "sgd"), ("optimizer.learning_rates.w", 1.0), ("generator.options.factor", 3.0)]
    other = resolve(settings=[*plain, ("generator.name", "scaled"), *sgd])
    comparison, _ = compared({**configs("scaled"), "scaled-sgd": other})
    assert columns(comparison) == ["scaled", "scaled-sgd", RANDOM_REAL]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("steps", 5, "out/pixel was made with steps = 4, and now it is 5"),
        ("seed", 1, "was made with seed = 0, and now it is 1"),
        ("evaluation.repeats", 1, r"was made with evaluation\.repeats = 2, and now it is 1"),
        ("optimizer.learning_rates.pixels", 1.0, r"optimizer\.learning_rates\.pixels = 0\.05, and now it is 1\.0"),
    ],
)
def test_a_folder_of_other_settings_is_refused_before_any_run(compared, configs, tmp_path, path, value, message):
    compared(configs("pixel"))
    before = (tmp_path / "out" / "pixel" / "config.yaml").read_bytes()
    more = {} if path.startswith("optimizer") else {path: value}
    with pytest.raises(UsageError, match=message + ": choose another --out, .* or delete that folder"):
        compared({**configs("scaled", **more), **configs("pixel", **{path: value})})
    assert not (tmp_path / "out" / "scaled").exists()
    assert (tmp_path / "out" / "pixel" / "config.yaml").read_bytes() == before


def test_another_folder_of_the_same_name_is_refused_and_kept(compared, configs, tmp_path):
    (tmp_path / "out" / "pixel").mkdir(parents=True)
    (tmp_path / "out" / "pixel" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="pixel is not empty and not a run: choose another --out"):
        compared(configs("scaled", "pixel"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pixel"]


def test_other_data_beside_a_finished_run_is_refused(compared, configs, tmp_path):
    compared(configs("pixel"))
    with pytest.raises(ArtefactError, match="with the same data only"):
        compared(configs("pixel", "scaled"), task=tiny_task(image_size=8, train=13, test=20))
    assert not (tmp_path / "out" / "scaled").exists()


def test_another_prior_beside_a_finished_run_is_refused(compared, configs, pieces, tmp_path):
    first, _ = compared(configs("scaled"))
    pieces.Scaled.prior = "second"
    message = (
        r"out/scaled was made with prior_sha256 first of its generator, and now it is second: put the former one back"
    )
    with pytest.raises(ArtefactError, match=message) as raised:
        compared(configs("other", "scaled"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out" / "other").exists()
    # The table of finished runs alone is still what it was.
    again, _ = compared(configs("scaled"))
    assert again.table == first.table
    pieces.Scaled.prior = "first"
    assert columns(compared(configs("other", "scaled"))[0]) == ["other", "scaled", RANDOM_REAL]


def test_other_experts_beside_a_finished_run_are_refused(compared, configs, pieces, tmp_path):
    compared(configs("scaled"))
    pieces.Level.experts = "second"
    message = r"out/scaled was made with experts_sha256 first of its objective, and now it is second: put the former"
    with pytest.raises(ArtefactError, match=message):
        compared(configs("other", "scaled"))
    assert not (tmp_path / "out" / "other").exists()


@pytest.mark.parametrize("there", ["thesis.txt", "photos/cat.png", "comparison.json/x", ".hidden"])
def test_a_folder_of_something_else_is_refused_and_kept(compared, configs, tmp_path, there):
    path = tmp_path / "out" / there
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    entry = re.escape(there.partition("/")[0])
    with pytest.raises(UsageError, match=rf"out/{entry} is not of a comparison: choose another --out") as raised:
        compared(configs("scaled", "pixel"))
    assert "\n" not in str(raised.value)
    assert [entry for entry in (tmp_path / "out").rglob("*") if entry.is_file()] == [path]


@pytest.mark.parametrize("there", ["comparison.json", "comparison.png"])
def test_a_table_without_its_runs_is_not_overwritten(compared, configs, tmp_path, there):
    (tmp_path / "out" / "scaled").mkdir(parents=True)
    (tmp_path / "out" / there).write_text("of something else")
    with pytest.raises(
        UsageError, match=f"{there} would be overwritten, and no run folder is beside it: choose another"
    ):
        compared(configs("scaled"))
    assert (tmp_path / "out" / there).read_text() == "of something else"


def test_what_a_killed_comparison_leaves_is_ours(compared, configs, tmp_path):
    (tmp_path / "out" / "scaled").mkdir(parents=True)  # killed before its configuration was there
    for name in (".comparison.json.partial", ".partial.comparison.png"):
        (tmp_path / "out" / name).write_text("half of")
    comparison, _ = compared(configs("scaled", "pixel"))
    assert columns(comparison) == ["scaled", "pixel", RANDOM_REAL]
    assert not list((tmp_path / "out").glob(".*"))


def test_what_would_stop_a_later_run_is_said_before_the_first(compared, configs, tmp_path):
    with pytest.raises(HostError, match="factor is too large"):
        compared({**configs("pixel"), **configs("scaled", **{"generator.options.factor": 101.0})})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [{}, {"final": {}}, {"final": {"step": 4, "rows": []}}, [1]])
def test_damaged_results_are_named(compared, configs, tmp_path, damage):
    compared(configs("pixel"))
    path = tmp_path / "out" / "pixel" / "distilled" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "results": damage}))
    with pytest.raises(ArtefactError, match=r"the results in .*metadata\.json are damaged: delete .*pixel to make"):
        compared(configs("pixel"))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "random real", "comparison.json"])
def test_a_name_that_cannot_be_a_folder_is_refused(compared, configs, name):
    with pytest.raises(UsageError, match="cannot name a run folder"):
        compared({name: configs("pixel")["pixel"]})


def test_nothing_to_compare_is_refused(compared, configs):
    with pytest.raises(UsageError, match="there is nothing to compare"):
        compared({})
    with pytest.raises(UsageError, match=r"evaluation\.final is false"):
        compared(configs("pixel", **{"evaluation.final": False}))


def test_a_protocol_with_a_rate_of_each_runs_own_is_refused(compared, configs):
    with pytest.raises(UsageError, match=r"protocol 'mtt' trains on .* at another learning rate.*such as dsa-2021"):
        compared(configs("pixel", **{"evaluation.protocol": "mtt"}))


# Configurations -------------------------------------------------------------------------------------------------------


def test_options_of_a_file_are_for_every_generator_that_has_them(tmp_path, registry):
    file = tmp_path / "run.yaml"
    file.write_text("{generator: {name: scaled, options: {factor: 7}}, steps: 3}")
    made = configurations(["scaled", "other", "pixel"], [file])
    options = {name: config.generator.options for name, config in made.items()}
    assert options == {"scaled": {"factor": 7}, "other": {"factor": 7}, "pixel": {}}
    assert {config.steps for config in made.values()} == {3}
    more = configurations(["scaled", "other"], [file], options={"other": {"factor": 5}})
    assert {name: config.generator.options["factor"] for name, config in more.items()} == {"scaled": 7, "other": 5}
    alone = configurations(["other", "pixel"], [file])  # the one it names is not compared
    assert alone["other"].generator.options == {"factor": 7}


def test_an_option_that_the_generator_of_the_file_does_not_have_is_refused(ld3m, command, tmp_path):
    (tmp_path / "run.yaml").write_text("{generator: {name: scaled, options: {facto: 7}}}")
    outcome = ld3m(*command, "--config", "run.yaml", "--generators", "pixel,scaled", "--out", "cmp")
    assert outcome.code == 2
    assert "generator 'scaled' has no option 'facto'; did you mean 'factor'" in outcome.error


@pytest.mark.parametrize("preset", [name for name in presets.preset_names() if name.startswith("ld3m-2024/")])
def test_published_presets_compare_on_one_prior(preset):
    generators = presets.load_preset(preset).compare["generators"]
    made = {name: completed(config) for name, config in configurations(generators, presets=[preset]).items()}
    assert list(made) == ["ld3m", "autoencoder"]
    assert {config.generator.options["prior"] for config in made.values()} == {"cin256-v2"}
    published = {"dm": 1.0, "dc": 0.1, "mtt": 1000.0}
    (rate,) = (value for objective, value in published.items() if preset.endswith(f"-{objective}"))
    assert made["ld3m"].optimizer.learning_rates == {"latent": rate, "class_embedding": rate}
    assert made["autoencoder"].optimizer.learning_rates == {"latent": rate}
    own = configurations(generators, presets=[preset], options={"autoencoder": {"prior": "mine"}})
    assert {name: config.generator.options["prior"] for name, config in own.items()} == {
        "ld3m": "cin256-v2",
        "autoencoder": "mine",
    }


def test_learning_rates_are_for_the_latents_of_that_name(registry):
    settings = [("optimizer.learning_rates.w", 1.0), ("optimizer.learning_rates.pixels", 2.0)]
    made = configurations(["scaled", "other", "pixel"], settings=settings)
    rates = {name: config.optimizer.learning_rates for name, config in made.items()}
    assert rates == {"scaled": {"w": 1.0}, "other": {"w": 1.0}, "pixel": {"pixels": 2.0}}
    some = configurations(["scaled", "pixel"], settings=settings[1:])
    assert some["scaled"].optimizer.learning_rates == {}  # its own default


def test_learning_rates_of_a_preset_whose_generator_is_not_compared_are_left_out(registry):
    made = configurations(["scaled"], presets=["glad-2023/pixel-dm"])
    assert made["scaled"].optimizer.learning_rates == {}
    both = configurations(["scaled", "pixel"], presets=["glad-2023/pixel-dm"])
    assert both["pixel"].optimizer.learning_rates == {"pixels": 10.0}


def test_a_generator_without_defaults_gets_the_rates_that_no_other_claims(registry, pieces, monkeypatch):
    monkeypatch.setattr(pieces.Other, "learning_rates", lambda self, objective: {})
    settings = [("optimizer.learning_rates.w", 1.0), ("optimizer.learning_rates.v", 2.0)]
    made = configurations(["scaled", "other"], settings=settings)
    assert made["scaled"].optimizer.learning_rates == {"w": 1.0}
    assert made["other"].optimizer.learning_rates == {"v": 2.0}


@pytest.mark.parametrize(
    ("names", "settings", "error", "message"),
    [
        (
            ["scaled"],
            [("optimizer.learning_rates.v", 1.0)],
            UsageError,
            "learning_rates has 'v'; known: w",
        ),
        (
            ["scaled"],
            [("generator.options.factor", 1.0)],
            UsageError,
            r"'generator\.options\.factor' is of one generator",
        ),
        (["scaled"], [("generator.name", "pixel")], UsageError, "choose with --generators"),
        (["pixle"], [("optimizer.learning_rates.w", 1.0)], UnknownBackendError, "did you mean 'pixel'"),
    ],
)
def test_settings_that_make_no_comparison(registry, names, settings, error, message):
    with pytest.raises(error, match=message):
        configurations(names, settings=settings)


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(pieces, two_epochs):
    return [
        *("compare", "--data", "tiny", "-o", "level", "--steps", "4"),
        *("--protocol", two_epochs, "--networks", "Linear", "--repeats", "1"),
    ]


def test_the_command_prints_the_table_and_where_everything_is(ld3m, command, tmp_path):
    arguments = [*command, "--generators", "scaled, pixel", "-G", "scaled.factor=3", "--out", "cmp"]
    outcome = ld3m(*arguments)
    assert outcome.code == 0, outcome.err
    assert re.search(r"network .* scaled .* pixel .* random real", outcome.out)
    assert re.search(
        r"scaled: distilled in 0:0\d, evaluated with random real images in \S+, run folder cmp/scaled", outcome.out
    )
    assert re.search(r"pixel: distilled in 0:0\d, evaluated in \S+, run folder cmp/pixel", outcome.out)
    assert "pictures: cmp/comparison.png (a row each: scaled, pixel)" in outcome.out
    assert "numbers: cmp/comparison.json" in outcome.out
    saved = yaml.safe_load((tmp_path / "cmp" / "scaled" / "config.yaml").read_text())
    assert saved["generator"]["options"] == {"factor": 3}
    again = ld3m(*arguments)
    assert (again.code, again.out) == (0, outcome.out)
    assert "scaled is finished: read from cmp/scaled" in again.err
    assert "distilling" not in again.err


@pytest.mark.parametrize("end", ["ctrl-c", "sigterm"])
def test_a_command_that_was_stopped_goes_on_when_given_again(ld3m, command, pieces, end):
    pieces.Scaled.end, pieces.Scaled.end_at = end, 3
    arguments = [*command, "--generators", "pixel,scaled", "--out", "cmp"]
    before = signal.getsignal(signal.SIGTERM)
    try:
        stopped = ld3m(*arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.splitlines()[-1] == "stopped; the same command goes on"
    pieces.Scaled.end_at = None
    again = ld3m(*arguments)
    assert again.code == 0, again.err
    assert "pixel is finished" in again.err
    assert "run folder cmp/scaled" in again.out


def test_without_a_name_the_folder_is_new_and_named_when_stopped(ld3m, command, pieces, tmp_path):
    name = "runs/tiny-compare-level-ipc1-seed0"
    for folder in (name, f"{name}-2"):
        outcome = ld3m(*command, "--generators", "scaled")
        assert outcome.code == 0, outcome.err
        assert (tmp_path / folder / "comparison.json").is_file()
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 2
    stopped = ld3m(*command, "--generators", "scaled")
    assert stopped.err.splitlines()[-1] == f"stopped; the same command with --out {name}-3 goes on"
    pieces.Scaled.end = "host error"
    failed = ld3m(*command, "--generators", "scaled")
    assert (failed.code, failed.error) == (1, "error: the disk is full: make room")
    assert f"what is finished stays; the same command with --out {name}-4 goes on" in failed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generators", "pixle"], "unknown generator 'pixle': did you mean 'pixel'"),
        (["--generators", ","], "',' names nothing"),
        (
            ["--generators", "pixel", "-G", "pixle.init=noise"],
            "'pixle' is none of the generators .* did you mean 'pixel'",
        ),
        (["--generators", "pixel", "-G", "init=noise"], "'init' is none of the generators .* write -G NAME.KEY=VALUE"),
        (["--generators", "pixel", "-G", "pixel.init"], "is not an assignment"),
        (["--generators", "pixel", "-G", "pixel.inti=noise"], "generator 'pixel' has no option 'inti'"),
        (["--generators", "pixel", "--set", "generator.name=pixel"], "'generator.name' is of one generator"),
        (["--preset", "dmeo"], "unknown preset 'dmeo'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(ld3m, command, tmp_path, arguments, message):
    outcome = ld3m(*command, *arguments, "--out", "cmp")
    assert (outcome.code, outcome.out) == (2, "")
    assert re.search(message, outcome.error)
    assert not (tmp_path / "cmp").exists()


def test_a_preset_names_the_generators(ld3m, command, tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    config = "{generator: {name: scaled, options: {factor: 7}}}"
    both = f"{{summary: s, source: t, config: {config}, compare: {{generators: [pixel, scaled]}}}}"
    (tmp_path / "presets" / "both.yaml").write_text(both)
    (tmp_path / "presets" / "none.yaml").write_text("{summary: s, source: t, config: {steps: 2}}")
    monkeypatch.setattr(presets, "_folder", lambda: tmp_path / "presets")
    outcome = ld3m(*command, "--preset", "both", "--preset", "none", "--out", "cmp")
    assert outcome.code == 0, outcome.err
    assert list(json.loads((tmp_path / "cmp" / "comparison.json").read_text())["runs"]) == ["pixel", "scaled"]
    chosen = ld3m(*command, "--preset", "both", "--generators", "scaled", "--out", "other")
    assert chosen.code == 0, chosen.err
    record = json.loads((tmp_path / "other" / "comparison.json").read_text())["runs"]
    assert {name: run["generator"]["options"] for name, run in record.items()} == {"scaled": {"factor": 7}}
    # A run of its own takes the configuration alone.
    dry = ld3m("distill", "--preset", "both", "--dry-run")
    assert yaml.safe_load(dry.out)["generator"] == {"name": "scaled", "options": {"factor": 7}}
    shown = ld3m("presets", "show", "both")
    assert "# ld3m compare: pixel, scaled\n" in shown.out
    assert yaml.safe_load(shown.out) == {"generator": {"name": "scaled", "options": {"factor": 7}}}


def test_the_default_generators_are_there(registry):
    from ld3m_plugin.cli.compare import _GENERATORS

    assert set(_GENERATORS) <= set(registry.names("generator"))


def test_a_moved_source_is_the_same_data(compared, configs):
    compared(configs("pixel"))
    _, notes = compared(configs("pixel", "scaled"), task=replace(TASK, source="another folder"))
    assert {name for name, _ in notes.steps} == {"scaled"}

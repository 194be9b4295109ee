"""Which rows a grid has: every combination once, on equal terms, or a refusal before anything is made."""

import pytest

from ld3m_plugin.cli.grid_options import grid_settings
from ld3m_plugin.comparison.grid import read_grid
from ld3m_plugin.comparison.points import points
from ld3m_plugin.errors import UsageError


def facts(point):
    config = point.config
    return point.generator, config.data.name, config.images_per_class, config.seed, dict(point.varied)


def test_every_combination_is_a_row_and_random_real_images_have_one_for_each_seed(grid):
    rows = points(grid("scaled", "pixel", seeds=[0, 1], images_per_class=[1, 2], data=["tiny", "other"]))
    runs = [facts(row)[:4] for row in rows if row.generator]
    wanted = [(g, d, i, s) for d in ("tiny", "other") for i in (1, 2) for g in ("scaled", "pixel") for s in (0, 1)]
    assert runs == wanted
    real = [facts(row) for row in rows if row.generator is None]
    assert real == [(None, d, i, s, {}) for d in ("tiny", "other") for i in (1, 2) for s in (0, 1)]


def test_a_varied_option_applies_to_those_that_have_it(grid):
    rows = points(grid("scaled", "pixel", vary={"generator.options.factor": [1.0, 3.0]}, random_real=False))
    assert [(row.generator, dict(row.varied)) for row in rows] == [
        ("scaled", {"generator.options.factor": 1.0}),
        ("scaled", {"generator.options.factor": 3.0}),
        ("pixel", {}),
    ]
    assert [row.config.generator.options.get("factor") for row in rows] == [1.0, 3.0, None]


def test_a_varied_setting_of_all_is_a_row_for_each(grid):
    rows = points(grid("scaled", "pixel", vary={"steps": [2, 3]}))
    assert [(row.generator, row.config.steps) for row in rows if row.generator] == [
        *(("scaled", 2), ("scaled", 3)),
        *(("pixel", 2), ("pixel", 3)),
    ]
    assert len([row for row in rows if row.generator is None]) == 1  # real images take no steps


def test_a_varied_rate_is_of_the_generators_with_such_a_latent_and_wins_over_that_of_all(grid):
    rates = {"w": 0.3, "pixels": 0.4}
    rows = points(
        grid(
            "scaled",
            "pixel",
            config={"optimizer": {"learning_rates": rates}},
            vary={"optimizer.learning_rates.w": [1.0, 2.0]},
            random_real=False,
        )
    )
    assert [(row.generator, dict(row.varied), row.config.optimizer.learning_rates) for row in rows] == [
        ("scaled", {"optimizer.learning_rates.w": 1.0}, {"w": 1.0}),
        ("scaled", {"optimizer.learning_rates.w": 2.0}, {"w": 2.0}),
        ("pixel", {}, {"pixels": 0.4}),
    ]


@pytest.mark.parametrize("option", ["split=equal-data", "select_on=validation"])
def test_options_of_the_data_hold_for_data_that_is_named(arguments, option):
    """They were lost where the presets name another data set."""
    grid = read_grid(settings=grid_settings(arguments(generators="pixel", data=["emoji"], data_options=[option])))
    key, value = option.split("=")
    assert {point.config.data.options[key] for point in points(grid)} == {value}
    assert {point.kind for point in points(grid)} == {"run", "start", "random real"}


@pytest.mark.parametrize("where", ["config", "settings", "grid"])
def test_options_of_the_data_hold_where_a_file_or_a_setting_names_another_set(arguments, tmp_path, where):
    """A set that --data replaces goes with its options; those of the same set stay."""
    data = "data: {name: fashion-mnist:embedded, options: {image_size: 16}}"
    file = tmp_path / "file.yaml"
    file.write_text(f"{{generators: [pixel], config: {{{data}}}}}" if where == "grid" else data)
    named = {"config": [file], "settings": ["data.name=fashion-mnist:embedded"], "grid": [file]}[where]

    def options(*data, **more):
        given = arguments(generators="pixel", controls="none", data=list(data), **{where: named}, **more)
        files = (file,) if where == "grid" else ()
        return [point.config.data.options for point in points(read_grid(files, settings=grid_settings(given)))]

    assert {made["split"] for made in options("emoji", data_options=["split=equal-data"])} == {"equal-data"}
    expected = None if where == "settings" else 16
    assert {made["image_size"] for made in options("fashion-mnist:embedded")} == {expected}


def test_options_of_the_objective_hold_for_all_that_have_them(arguments):
    def batches(objectives, option="batch_real=8"):
        given = arguments(
            generators="pixel", controls="none", objectives=objectives, settings=[f"objective.options.{option}"]
        )
        rows = [point.config.objective for point in points(read_grid(settings=grid_settings(given)))]
        return {made.name: made.options.get("batch_real") for made in rows}

    assert batches("dc") == {"dc": 8}
    assert batches("dm,dc") == {"dm": 8, "dc": 8}
    assert batches("dm,mtt") == {"dm": 8, "mtt": None}
    with pytest.raises(UsageError, match="objective 'dc' has no option 'batch_rael'"):
        batches("dc", "batch_rael=8")


def test_networks_and_repeats_hold_for_every_varied_protocol(arguments):
    given = {"networks": ["MLP"], "repeats": 1, "settings": ["evaluation.test_per_class=5"]}
    given = arguments(generators="pixel", controls="none", vary=["evaluation.protocol=quick,unseen"], **given)
    found = [point.config.evaluation for point in points(read_grid(settings=grid_settings(given)))]
    assert {(made.protocol, made.networks, made.repeats, made.test_per_class) for made in found} == {
        ("quick", ("MLP",), 1, 5),
        ("unseen", ("MLP",), 1, 5),
    }


def test_varied_rates_as_a_mapping_win_over_those_of_all(grid):
    rates = {"optimizer": {"learning_rates": {"w": 0.3}}}
    vary = {"optimizer.learning_rates": [{"w": 1.0}, {"w": 2.0}]}
    rows = points(grid("scaled", config=rates, vary=vary, random_real=False))
    assert [row.config.optimizer.learning_rates for row in rows] == [{"w": 1.0}, {"w": 2.0}]


@pytest.mark.parametrize(("name", "other"), [({}, {"pixels": 0.3}), ({"name": "sgd"}, {"pixels": 0.05})])
def test_rates_of_one_optimizer_are_not_those_of_another(grid, name, other):
    given = {"optimizer": {**name, "learning_rates": {"pixels": 0.3}}}
    rows = points(grid("pixel", config=given, vary={"optimizer.name": ["sgd", "adam"]}, random_real=False))
    assert [row.config.optimizer.learning_rates for row in rows] == [{"pixels": 0.3}, other]


def test_a_comparison_without_random_real_images_by_its_settings(grid):
    rows = points(grid("scaled", config={"evaluation": {"random_real": False}}))
    assert [row.kind for row in rows] == ["run"]


def test_options_by_name_reach_their_backend_alone(grid):
    rows = points(grid("scaled", "other", generator_options={"other": {"factor": 5}}, random_real=False))
    assert [row.config.generator.options["factor"] for row in rows] == [2.0, 5.0]


def test_a_control_is_added_where_a_compared_generator_has_its_options_and_takes_them_over():
    grid = read_grid(
        presets=("demo",),
        settings={
            "generators": ["ld3m", "pixel"],
            "controls": ["autoencoder"],
            "generator_options": {"ld3m": {"init": "gaussian"}},
        },
    )
    rows = {row.generator: row.config for row in points(grid)}
    assert list(rows) == ["ld3m", "pixel", "autoencoder", None]
    assert rows["autoencoder"].generator.options["init"] == "gaussian"
    alone = read_grid(presets=("demo",), settings={"generators": ["pixel"], "controls": ["autoencoder"]})
    assert [row.generator for row in points(alone)] == ["pixel", None]


def test_defaults_have_glad_as_baseline_and_controls():
    grid = read_grid()
    assert grid.baseline == "glad"
    assert {row.generator for row in points(grid)} == {
        "ld3m",
        "glad",
        "pixel",
        "autoencoder",
        "centres",
        "medoids",
        "latent-centres",
        "samples",
        None,
    }


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"generators": ["scald"]}, ["scald", "scaled"]),
        ({"generators": []}, ["generator"]),
        ({"vary": {"optimizer.learning_rates.ww": [1.0]}}, ["ww", "did you mean 'w'"]),
        ({"objectives": ["levle"]}, ["levle", "level"]),
        ({"generator_options": {"pixel": {"init": "noise"}}}, ["pixel"]),
        ({"generator_options": {"scaled": {"fcator": 1}}}, ["fcator", "factor"]),
        ({"objective_options": {"dm": {"batch_real": 3}}}, ["dm"]),
        ({"vary": {"generator.options.steps": [1]}}, ["generator.options.steps"]),
        ({"vary": {"generator.name": ["pixel"]}}, ["generator.name"]),
        ({"vary": {"steps": []}}, ["steps"]),
        ({"seeds": [-1]}, ["seeds", "-1"]),
        ({"genrators": ["pixel"]}, ["genrators", "generators"]),
        ({"config": {"stesp": 3}}, ["stesp", "steps"]),
        ({"config": {"optimizer": {"learning_rates": {"v": 1.0}}}}, ["'v'", "w"]),
        ({"config": {"evaluation": {"final": False}}}, ["evaluation.final"]),
        ({"config": {"evaluation": {"protocol": "mtt"}}}, ["mtt"]),
        ({"presets": ["dmeo"]}, ["dmeo", "demo"]),
        ({"presets": 3}, ["presets", "3"]),
        ({"presets": [3]}, ["presets.0", "3"]),
        ({"presets": [[1]]}, ["presets"]),
        ({"presets": "demo"}, ["presets", "[demo]"]),
        ({"baseline": "glad"}, ["baseline", "'glad'", "scaled"]),
        ({"vary": {"seed": [0, 1]}}, ["seed", "--seeds"]),
        ({"vary": {"data.name": ["tiny"]}}, ["data.name", "--data"]),
        ({"vary": {"images_per_class": [1, 2]}}, ["images_per_class", "--ipc"]),
        ({"vary": {"device": ["cpu", "cuda"]}}, ["device"]),
        ({"vary": {"evaluation.final": [True, False]}}, ["evaluation.final"]),
        ({"vary": {"evaluation.protocol": ["quick", "mtt"]}}, ["mtt"]),
    ],
)
def test_mistakes_are_one_line_that_names_them(refusal, fields, named):
    line = refusal(**fields)
    for word in named:
        assert word in line


def test_objectives_on_unequal_terms_are_refused_unless_asked_for(grid):
    small = {"network_settings": {"depth": 2, "width": 8}, "batch_real": 4}
    fields = {"objectives": ["dm", "dc"], "config": {"objective": {"name": "dm", "options": small}}}
    with pytest.raises(UsageError, match=r"is .* for dm and .* for dc.* -O dc\."):
        points(grid("pixel", **fields))
    rows = points(grid("pixel", **fields, objective_options={"dm": small, "dc": small}))
    assert [row.config.objective.name for row in rows if row.generator] == ["dm", "dc"]


def test_a_grid_file_holds_all_and_later_settings_override_it(tmp_path, registry):
    file = tmp_path / "grid.yaml"
    file.write_text("generators: [scaled, pixel]\nseeds: [0, 1]\nconfig: {steps: 7, data: {name: tiny}}\n")
    grid = read_grid((file,), settings={"seeds": [5], "config": {"steps": 9}})
    assert (grid.generators, grid.seeds) == (("scaled", "pixel"), (5,))
    assert grid.config == {"steps": 9, "data": {"name": "tiny"}}


def test_an_option_without_a_name_is_for_the_one_that_a_preset_or_a_grid_file_compares(arguments, tmp_path, registry):
    option = {"objective_options": ["batch_real=8"]}
    assert grid_settings(arguments(preset=["demo"], **option))["objective_options"] == {"dm": {"batch_real": 8}}
    file = tmp_path / "grid.yaml"
    file.write_text("objectives: [dc]\n")
    assert grid_settings(arguments(grid=[file], **option))["objective_options"] == {"dc": {"batch_real": 8}}
    file.write_text("objectives: [dc, dm]\n")
    with pytest.raises(UsageError, match="batch_real"):
        grid_settings(arguments(grid=[file], **option))


@pytest.mark.parametrize(
    "budget", ["steps=inf", "steps=2.7", "steps=", "seconds=inf", "seconds=nan", "seconds", "hours=1"]
)
def test_a_budget_that_is_none_is_refused(arguments, registry, budget):
    with pytest.raises(UsageError, match="--budget"):
        grid_settings(arguments(budget=budget))
    assert grid_settings(arguments(budget="steps=3"))["config"] == {"steps": 3}
    assert grid_settings(arguments(budget="seconds=2.5"))["config"]["seconds"] == 2.5


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5,10", (5, 10)),
        ("[5,10]", (5, 10)),
        ("[a],[b,c]", (["a"], ["b", "c"])),
        ("[[a]]", (["a"],)),
        ("{width: 8, depth: 2},{width: 16}", ({"width": 8, "depth": 2}, {"width": 16})),
        ("a", ("a",)),
    ],
)
def test_varied_values_may_be_lists_and_mappings(arguments, registry, text, values):
    assert grid_settings(arguments(vary=[f"some.path={text}"]))["vary"] == {"some.path": values}


@pytest.mark.parametrize("text", ["steps", "steps=[1", "steps={", "=1"])
def test_varied_values_that_are_none_are_refused(arguments, registry, plain, text):
    with pytest.raises(UsageError):
        points(read_grid(settings={"generators": ["scaled"], **grid_settings(arguments(vary=[text])), "config": plain}))


WIDE = """
generators: [pixel, glad]
objectives: [dm, dc]
controls: [latent-centres]
generator_options: {glad: {init: avg_w}, pixel: {init: mean}, latent-centres: {prior: embedded}}
objective_options: {dc: {batch_real: 8}, dm: {batch_real: 9}}
rates: {glad: {w: 1}, pixel+dc: {pixels: 2}, pixel: {pixels: 3}}
"""


def test_options_of_what_a_later_layer_leaves_out_go_with_it(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(WIDE)
    grid = read_grid((file,), settings={"generators": ["pixel"], "objectives": ["dm"], "controls": []})
    assert grid.generator_options == {"pixel": {"init": "mean"}}
    assert grid.objective_options == {"dm": {"batch_real": 9}}
    assert grid.rates == {"pixel": {"pixels": 3}}
    whole = read_grid((file,), settings={"seeds": [1]})
    assert (len(whole.generator_options), len(whole.objective_options), len(whole.rates)) == (3, 2, 3)


@pytest.mark.parametrize(
    "settings", [{"generator_options": {"glad": {"init": "avg_w"}}}, {"rates": {"glad": {"w": 1}}}]
)
def test_options_in_the_layer_that_leaves_a_generator_out_are_refused(tmp_path, settings):
    file = tmp_path / "grid.yaml"
    file.write_text(WIDE)
    narrow = {"generators": ["pixel"], "objectives": ["dm"], "controls": [], **settings}
    with pytest.raises(UsageError, match=r"glad.*is not compared"):
        points(read_grid((file,), settings=narrow))


@pytest.mark.parametrize("wrong", ["generator_options: pixel", "rates: [1]", "objectives: 3", "rates: {1: {w: 2}}"])
def test_a_malformed_file_is_one_error_when_the_command_line_narrows_it(tmp_path, wrong):
    file = tmp_path / "grid.yaml"
    file.write_text(f"generators: [pixel, glad]\n{wrong}\n")
    with pytest.raises(UsageError):
        points(read_grid((file,), settings={"generators": ["pixel"]}))

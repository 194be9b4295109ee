"""Learning rates of a grid's rows: of one generator, of one pair, and factors on all of them."""

import pytest

from ld3m_plugin.cli.grid_options import grid_settings
from ld3m_plugin.comparison.points import points
from ld3m_plugin.errors import UsageError

OF_ALL = {"optimizer": {"learning_rates": {"latent": 1}}}
LATENT = {"generator_options": {"ld3m": {"learn": "latent"}}}


def rates(rows):
    return [(row.generator, row.config.objective.name, row.config.optimizer.learning_rates) for row in rows]


def test_two_generators_whose_latents_share_a_name_have_rates_of_their_own(grid):
    rows = points(grid("scaled", "other", rates={"other": {"w": 0.7}}, random_real=False))
    assert rates(rows) == [("scaled", "level", {"w": 0.1}), ("other", "level", {"w": 0.7})]


def test_the_rate_of_a_pair_wins_over_that_of_its_generator_and_a_varied_one_over_both(grid):
    small = {"network_settings": {"depth": 2, "width": 8}, "batch_real": 4}
    fields = {
        "objectives": ["dm", "dc"],
        "objective_options": {"dm": small, "dc": small},
        "rates": {"pixel+dc": {"pixels": 0.7}, "pixel": {"pixels": 0.5}},
        "random_real": False,
    }
    wanted = [("pixel", "dm", {"pixels": 0.5}), ("pixel", "dc", {"pixels": 0.7})]
    assert rates(points(grid("pixel", **fields))) == wanted
    given = {"config": {"optimizer": {"learning_rates": {"pixels": 0.3}}}}
    assert rates(points(grid("pixel", **fields, **given))) == wanted
    for vary in (
        {"optimizer.learning_rates.pixels": [0.2, 0.4]},
        {"optimizer.learning_rates": [{"pixels": 0.2}, {"pixels": 0.4}]},
        {"optimizer": [{"learning_rates": {"pixels": 0.2}}, {"learning_rates": {"pixels": 0.4}}]},
    ):
        assert [found for _, _, found in rates(points(grid("pixel", **fields, vary=vary)))] == [
            {"pixels": rate} for rate in (0.2, 0.4, 0.2, 0.4)
        ]


def test_factors_multiply_every_rate_and_name_the_row(grid):
    rows = points(grid("scaled", "pixel", rates={"scaled": {"w": 0.4}}, rate_factors=[0.5, 1, 4]))
    runs = [row for row in rows if row.generator]
    assert [(row.generator, dict(row.varied)) for row in runs] == [
        (name, {"optimizer.rate_factor": factor}) for name in ("scaled", "pixel") for factor in (0.5, 1, 4)
    ]
    found = [row.config.optimizer.learning_rates for row in runs]
    assert found == [{"w": 0.2}, {"w": 0.4}, {"w": 1.6}, {"pixels": 0.025}, {"pixels": 0.05}, {"pixels": 0.2}]
    real = [row for row in rows if row.generator is None]
    assert [dict(row.varied) for row in real] == [{}]  # pictures that nothing learns know no rate


def test_a_control_has_rates_too(grid):
    rows = points(grid("scaled", controls=["other"], rates={"other": {"w": 0.7}}, random_real=False))
    assert rates(rows) == [("scaled", "level", {"w": 0.1}), ("other", "level", {"w": 0.7})]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rates": {"scald": {"w": 0.1}}}, ["'scald'", "did you mean 'scaled'"]),
        ({"rates": {"scaled+dm": {"w": 0.1}}}, ["scaled+dm", "scaled+level"]),
        ({"rates": {"scaled": {"ww": 0.1}}}, ["'ww'", "did you mean 'w'"]),
        ({"rates": {"scaled": {"w": 0}}}, ["rates.scaled.w", "0"]),
        ({"rate_factors": [0]}, ["rate_factors", "0"]),
        ({"rate_factors": [1e308], "rates": {"scaled": {"w": 10}}}, ["learning_rates.w", "inf"]),
        ({"rate_factors": [2], "config": {"optimizer": {"name": "sgd"}}}, ["rate_factors", "--rate scaled.w=VALUE"]),
        ({"vary": {"optimizer.learning_rates.w": ["much"]}, "rate_factors": [2]}, ["learning_rates.w", "much"]),
        (
            {"generators": ["ld3m"], "rates": {"ld3m": {"class_embedding": 1}}, **LATENT},
            ["'class_embedding'", "latent"],
        ),
        (
            {"controls": ["mean"], "rates": {"mean": {"w": 1}}, "controls_through": "pixel"},
            ["'mean'", "learns nothing"],
        ),
        # A control without a compared generator that has its options is not made.
        ({"controls": ["autoencoder"], "rates": {"autoencoder": {"latent": 1}}}, ["'autoencoder'", "not compared"]),
        ({"controls": ["autoencoder"], "config": {"generator": {"name": "pixel"}, **OF_ALL}}, ["'latent'", "w"]),
    ],
)
def test_mistakes_are_one_line_that_names_them(refusal, fields, named):
    line = refusal(**fields)
    for word in named:
        assert word in line


def test_rates_and_factors_of_the_command(arguments):
    given = arguments(
        generators="ld3m,pixel",
        rates=["ld3m+mtt.latent=0.1", "pixel.pixels=0.3", "ld3m.latent=1e-2"],
        rate_factors="0.5,2",
    )
    found = grid_settings(given)
    assert found["rates"] == {"ld3m+mtt": {"latent": 0.1}, "pixel": {"pixels": 0.3}, "ld3m": {"latent": 0.01}}
    assert found["rate_factors"] == [0.5, 2]
    dotted = grid_settings(arguments(generators="ld3m", rates=["ld3m+dc.block.0=0.1", "my.own.w=1"]))["rates"]
    assert dotted == {"ld3m+dc": {"block.0": 0.1}, "my.own": {"w": 1}}
    for text in ("latent=0.1", "ld3m.latent", "ld3m=0.1"):
        with pytest.raises(UsageError, match=r"--rate .*: write --rate NAME\.LATENT=VALUE"):
            grid_settings(arguments(generators="ld3m", rates=[text]))

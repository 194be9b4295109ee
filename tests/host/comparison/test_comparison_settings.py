"""The configurations of a comparison: what files, presets and settings mean for each generator."""

import pytest

from ld3m_plugin import presets
from ld3m_plugin.comparison.settings import configurations
from ld3m_plugin.config import completed
from ld3m_plugin.errors import UnknownBackendError, UsageError


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
    monkeypatch.setattr(pieces.Other, "learning_rates", lambda self: {})
    settings = [("optimizer.learning_rates.w", 1.0), ("optimizer.learning_rates.v", 2.0)]
    made = configurations(["scaled", "other"], settings=settings)
    assert made["scaled"].optimizer.learning_rates == {"w": 1.0}
    assert made["other"].optimizer.learning_rates == {"v": 2.0}


@pytest.mark.parametrize(
    ("names", "path", "value", "error", "message"),
    [
        (["scaled"], "optimizer.learning_rates.v", 1.0, UsageError, r"'v'.* w$"),
        (["scaled"], "generator.options.factor", 1.0, UsageError, r"'generator\.options\.factor'.* -G"),
        (["scaled"], "generator.name", "pixel", UsageError, "--generators"),
        (["pixle"], "optimizer.learning_rates.w", 1.0, UnknownBackendError, "'pixle'.* 'pixel'"),
    ],
)
def test_settings_that_make_no_comparison(registry, names, path, value, error, message):
    with pytest.raises(error, match=message):
        configurations(names, settings=[(path, value)])

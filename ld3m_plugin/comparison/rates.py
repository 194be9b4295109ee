"""Learning rates of the rows of a grid: those of all, of one generator, of a pair, varied ones, and a factor on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ld3m_plugin.backends import rates_of
from ld3m_plugin.comparison.grid import GridConfig
from ld3m_plugin.comparison.unnamed_settings import rates_of_all
from ld3m_plugin.config import OptimizerConfig, RunConfig, resolve
from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.options import build
from ld3m_plugin.registry import current_registry

_RATES = "optimizer.learning_rates."
_WHOLE = ("optimizer", "optimizer.learning_rates")
#: How a row says which factor its rates have.
FACTOR = "optimizer.rate_factor"


def with_rates(config: RunConfig, grid: GridConfig, base: RunConfig, varied: Sequence[tuple[str, Any]]) -> RunConfig:
    """A row's configuration with its rates: of presets and `config`, of its generator, of its pair, varied ones; later ones win.

    A rate of all generators applies to those with such a latent.

    Args:
        varied: settings of this row by path, rates among them.
    """
    own = {name: rate for key in keys_of(config) for name, rate in grid.rates.get(key, {}).items()}
    of_row = {path.removeprefix(_RATES): value for path, value in varied if path.startswith(_RATES)}
    if any(path in _WHOLE for path, _ in varied):
        given = {**own, **config.optimizer.learning_rates, **of_row}
    else:
        given = {**rates_of_all(grid, base, config), **own, **of_row}
    if not given:
        return config
    latents = latents_of(config) or set(given)  # without default rates it does not name its latents: any may be its
    return _changed(config, {name: rate for name, rate in given.items() if name in latents})


def times(config: RunConfig, factor: float | None) -> RunConfig:
    """A completed configuration with all its rates multiplied."""
    if factor is None:
        return config
    name, rates = config.generator.name, config.optimizer.learning_rates
    missing = sorted(latents_of(config) - rates.keys()) or ([] if rates else ["LATENT"])
    if missing:
        raise UsageError(
            f"rate_factors multiply learning rates, and {config.optimizer.name} has no default one for {missing[0]!r} of {name}: "
            f"give it (--rate {name}.{missing[0]}=VALUE)"
        )
    return _changed(config, {latent: rate * factor for latent, rate in rates.items()})


def _changed(config: RunConfig, rates: Mapping[str, Any]) -> RunConfig:
    given = {**config.optimizer.model_dump(), "learning_rates": rates}
    return config.model_copy(update={"optimizer": build(OptimizerConfig, given, "optimizer")})


def check_rates_of_all(grid: GridConfig, base: RunConfig) -> None:
    """Raise `UsageError` for a rate of `config`, or a varied one, of a latent that nothing has."""
    latents = [latents_of(resolve(settings=[("generator.name", name)])) for name in grid.generators]
    known = set().union(*latents) | latents_of(base)
    varied = [path.removeprefix(_RATES) for path in grid.vary if path.startswith(_RATES)]
    unclaimed = [latent for latent in (*base.optimizer.learning_rates, *varied) if latent not in known]
    # A generator without default rates does not name its latents: any rate may be its.
    if unclaimed and all(latents):
        raise UsageError(f"optimizer.learning_rates has {unclaimed[0]!r}; {nearest(unclaimed[0], known)}")


def check_own_rates(grid: GridConfig, runs: Sequence[RunConfig]) -> None:
    """Raise `UsageError` for `rates` that reach no row, since nothing of that name is compared or has such a latent."""
    pairs = list(dict.fromkeys(key for run in runs for key in keys_of(run)))
    for key, rates in grid.rates.items():
        if key not in pairs:
            if key in grid.controls and key in current_registry().names("initialiser"):
                raise UsageError(f"rates are given for {key!r}, which learns nothing: leave them out")
            raise UsageError(f"rates are given for {key!r}, which is not compared; {nearest(key, pairs)}")
        known = {latent for run in runs if key in keys_of(run) for latent in run.optimizer.learning_rates}
        for latent in rates:
            if latent not in known:
                raise UsageError(f"rates of {key!r} have {latent!r}; {nearest(latent, known)}")


def keys_of(config: RunConfig) -> tuple[str, str]:
    """Under which the grid's `rates` may have those of a row: its generator, then the pair."""
    name = config.generator.name
    return name, f"{name}+{config.objective.name}"


def is_rate_of(config: RunConfig, path: str) -> bool:
    """Whether a varied setting is the learning rate of a latent that the generator of `config` has, or no rate at all."""
    rate = path.removeprefix(_RATES)
    return rate == path or rate in config.optimizer.learning_rates


def latents_of(config: RunConfig) -> set[str]:
    """The latents that a generator's default rates name."""
    return set(rates_of(config.generator.name, config.generator.options, config.objective.name))

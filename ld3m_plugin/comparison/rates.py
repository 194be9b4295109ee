"""Learning rates of the rows of a grid: those of all, of one generator, of a pair, varied ones, and a factor on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from ld3m_plugin.backends import rates_of
from ld3m_plugin.comparison.grid import GridConfig
from ld3m_plugin.comparison.unnamed_settings import rates_of_all
from ld3m_plugin.config import RunConfig, changed, completed
from ld3m_plugin.errors import UsageError, nearest

_RATES = "optimizer.learning_rates."
_WHOLE = ("optimizer", "optimizer.learning_rates")
#: How a row says which factor its rates have.
FACTOR = "optimizer.rate_factor"


def with_rates(config: RunConfig, grid: GridConfig, base: RunConfig, varied: Sequence[tuple[str, Any]]) -> RunConfig:
    """A row's configuration with the rates that presets, `config`, the grid's `rates` and varied settings give; later ones win.

    A rate of all generators applies to those with such a latent.

    Args:
        varied: settings of this row by path, rates among them.
    """
    whole = any(path in _WHOLE for path, _ in varied)
    of_all = config.optimizer.learning_rates if whole else rates_of_all(grid, base, config)
    own = {name: rate for key in keys_of(config) for name, rate in grid.rates.get(key, {}).items()}
    of_row = {path.removeprefix(_RATES): value for path, value in varied if path.startswith(_RATES)}
    given = {**of_all, **own, **of_row}
    if not given:
        return config
    latents = latents_of(config) or set(given)  # without default rates it does not name its latents: any may be its
    return changed(config, "optimizer", learning_rates={k: v for k, v in given.items() if k in latents})


def times(config: RunConfig, factor: float | None) -> RunConfig:
    """A completed configuration with all its rates multiplied."""
    if factor is None:
        return config
    rates = {name: rate * factor for name, rate in config.optimizer.learning_rates.items()}
    if not rates:
        raise UsageError(
            f"rate_factors multiply the learning rates, and {config.generator.name} has no default ones with "
            f"{config.optimizer.name}: give rates (--rate {config.generator.name}.NAME=VALUE)"
        )
    return completed(changed(config, "optimizer", learning_rates=rates))


def check_rates(grid: GridConfig, base: RunConfig, configs: Mapping[str, RunConfig], objectives: Sequence[str]) -> None:
    """Reject rates of what is not compared, and of latents that nothing has.

    Args:
        configs: one configuration of each compared generator.

    Raises:
        UsageError: as said.
    """
    latents = {name: latents_of(config) for name, config in configs.items()}
    known = set().union(*latents.values()) | latents_of(base)
    varied = [path.removeprefix(_RATES) for path in grid.vary if path.startswith(_RATES)]
    unclaimed = [latent for latent in (*base.optimizer.learning_rates, *varied) if latent not in known]
    # A generator without default rates does not name its latents: any rate may be its.
    if unclaimed and all(latents.values()):
        raise UsageError(f"optimizer.learning_rates has {unclaimed[0]!r}; {nearest(unclaimed[0], known)}")
    pairs = [*latents, *(f"{name}+{objective}" for name, objective in product(latents, objectives))]
    for key, rates in grid.rates.items():
        if key not in pairs:
            raise UsageError(f"rates are given for {key!r}, which is not compared; {nearest(key, pairs)}")
        named = latents[key if key in latents else key.rpartition("+")[0]]
        for name in rates:
            if named and name not in named:
                raise UsageError(f"rates of {key!r} have {name!r}; {nearest(name, named)}")


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

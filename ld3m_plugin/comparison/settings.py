"""Settings of a comparison: a configuration for each generator, and what all of them must share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.backends import default_rates, get_generator
from ld3m_plugin.config import RunConfig, decisive, resolve
from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.options import options_model
from ld3m_plugin.registry import current_registry

_SHARED = {"data", "objective", "images_per_class", "steps", "seed", "evaluation"}


def configurations(
    generators: Iterable[str],
    files: Iterable[Path] = (),
    presets: Iterable[str] = (),
    settings: Iterable[tuple[str, Any]] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, RunConfig]:
    """Make a configuration for each generator from files, presets and settings, as `config.resolve` composes them.

    Options that a file or preset gives to its own generator apply to every generator with an option of that name: two
    generators that take a prior are compared on the same one. A learning rate applies to every generator with a latent of
    that name.

    Args:
        generators: registered names.
        options: options by generator; they override those of files and presets.

    Raises:
        UsageError: as `config.resolve`; a setting of a single generator; a learning rate of no generator's latent.
    """
    files, presets, settings = tuple(files), tuple(presets), tuple(settings)
    for path, _ in settings:
        if path.partition(".")[0] == "generator":
            raise UsageError(
                f"{path!r} is a setting of one generator: choose with --generators, give options with -G NAME.KEY=VALUE"
            )
    base = resolve(files, presets, settings)
    configs = {}
    for name in generators:
        model = options_model(current_registry().resolve("generator", name)) if name != base.generator.name else None
        shared = {key: value for key, value in base.generator.options.items() if model and key in model.model_fields}
        chosen = [*shared.items(), *(options or {}).get(name, {}).items()]
        paths = [(f"generator.options.{key}", value) for key, value in chosen]
        configs[name] = resolve(files, presets, [*settings, ("generator.name", name), *paths])
    given = base.optimizer.learning_rates
    return _with_learning_rates(configs, given, resolve(files, presets)) if given else configs


def _with_learning_rates(
    configs: Mapping[str, RunConfig], given: Mapping[str, float], base: RunConfig
) -> dict[str, RunConfig]:
    """Give each configuration the learning rates of its own latents; `base` is of files and presets alone."""
    latents = {name: _latents(config) for name, config in configs.items()}
    known = set().union(*latents.values())
    # Rates of the generator that files and presets name are dropped where it is not compared.
    of_base = _latents(base) & base.optimizer.learning_rates.keys()
    unclaimed = [latent for latent in given if latent not in known | of_base]
    # A generator without default rates does not name its latents: it gets the rates that no other claims.
    if unclaimed and all(latents.values()):
        raise UsageError(f"optimizer.learning_rates has {unclaimed[0]!r}; {nearest(unclaimed[0], known)}")
    return {
        name: changed(
            config, "optimizer", learning_rates={key: given[key] for key in given if key in (own or unclaimed)}
        )
        for (name, config), own in zip(configs.items(), latents.values(), strict=True)
    }


def changed(config: RunConfig, part: str, **settings: Any) -> RunConfig:
    """Copy a configuration with other settings in one part."""
    return config.model_copy(update={part: getattr(config, part).model_copy(update=settings)})


def _latents(config: RunConfig) -> set[str]:
    return set(default_rates(get_generator(config.generator.name, **config.generator.options), config.objective.name))


def check_comparable(configs: Mapping[str, RunConfig]) -> None:
    """Check that completed configurations differ in nothing but the generator and the optimiser.

    Raises:
        UsageError: two differ in more, the protocol trains each run's images at a rate of their own, or the final images are
            not evaluated.
    """
    (first, base), *others = (
        (name, config.model_dump(mode="json", include=_SHARED)) for name, config in configs.items()
    )
    for name, settings in others:
        found = difference(base, settings)
        if found is not None:
            path, one, other = found
            raise UsageError(
                f"{path} is {one!r} for {first} and {other!r} for {name}: make it the same, compared runs may differ in "
                "generator and optimizer only"
            )
    protocol = get_protocol(base["evaluation"]["protocol"])
    if protocol.learned_rate:
        raise UsageError(
            f"protocol {protocol.name!r} trains at a learning rate that each run learns, and random real images have none: "
            "choose a protocol with a fixed rate, such as dsa-2021"
        )
    if not base["evaluation"]["final"]:
        raise UsageError("evaluation.final is false, and a comparison needs the final evaluations: leave it true")


def difference(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> tuple[str, Any, Any] | None:
    """Find the first setting that differs: its dotted path and its two values; None where all are equal."""
    for key in dict.fromkeys((*one, *other)):
        first, second, path = one.get(key), other.get(key), f"{above}{key}"
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found = difference(first, second, f"{path}.")
            if found is not None:
                return found
        elif first != second:
            return path, first, second
    return None


def run_settings(config: RunConfig) -> dict[str, Any]:
    """Collect the settings that decide the images of a finished run and their accuracies, as plain data."""
    evaluation = config.evaluation.model_dump(mode="json", exclude={"random_real"})
    return {**decisive(config), "steps": config.steps, "evaluation": evaluation}

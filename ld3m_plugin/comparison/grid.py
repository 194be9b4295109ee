"""The settings of a comparison grid: every generator with every objective, on all data, at all seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ld3m_plugin.config import Rate, merge
from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.options import Options, build
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.presets import load_preset

Names = tuple[str, ...]


class GridConfig(Options):
    """All settings of a grid; `ld3m compare --grid FILE` reads them from YAML, and the other options override them.

    A row is one point: a generator, an objective, data, images per class, a seed, and a value of each varied setting.
    """

    read_later = frozenset({"vary", "generator_options", "objective_options", "config"})

    generators: Names = Field((), description="generators to compare")
    objectives: Names = Field((), description="objectives; default: that of config")
    data: Names = Field((), description="data sets, NAME or NAME:ARGUMENT; default: that of config")
    images_per_class: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="default: that of config")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((), description="default: that of config")
    vary: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="settings by path and the values they take, such as generator.options.steps: [5, 10]; an option applies to "
        "the backends that have it",
    )
    generator_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of one generator, by its name"
    )
    objective_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="options of one objective, by its name"
    )
    rates: dict[str, dict[str, Rate]] = Field(
        default_factory=dict,
        description="learning rates of one generator by latent, by its name or, with one objective, GENERATOR+OBJECTIVE: "
        "{ld3m: {latent: 0.02}, ld3m+mtt: {latent: 0.1}}",
    )
    rate_factors: tuple[Rate, ...] = Field(
        (),
        description="factors on all learning rates, a row for each: as many trials for every generator and objective",
    )
    presets: Names = Field((), description="presets that all rows start from")
    config: dict[str, Any] = Field(default_factory=dict, description="settings of all rows, over the presets")
    controls: Names = Field(
        (),
        description="generators, and initialisers as they are, that are added where a compared generator has all their options, "
        "which they take over from it",
    )
    controls_through: str | None = Field(
        None, description="generator whose option init takes the initialisers among the controls"
    )
    random_real: bool = Field(True, description="evaluate random real images as well")
    equal: Literal["images", "storage"] = Field(
        "images",
        description="what is equal: images per class, or learned numbers (as many images as fit the numbers of raw pixels)",
    )
    threads: int = Field(1, ge=1, description="threads of each row; they decide its bits")
    baseline: str | None = Field(None, description="generator that the others are compared with; default: the first")


class _Presets(Options):
    """The field of a grid that is needed before the others are composed."""

    presets: Names = ()


def read_grid(
    files: tuple[Path, ...] = (), presets: Names = (), settings: Mapping[str, Any] | None = None
) -> GridConfig:
    """Compose a grid: the preset `default`, then `presets`, then files, then `settings`; later ones win.

    Options and rates of a generator or objective go with it where a later layer leaves it out.

    Args:
        files: YAML files with fields of `GridConfig`.
        presets: their part `compare` counts here, their part `config` for the rows.

    Raises:
        UsageError: a file that is missing or not YAML, an unknown preset, field or value, or no generator.
    """
    layers = [*map(read_yaml, files), settings or {}]
    named = [build(_Presets, {"presets": layer.get("presets", ())}, "the grid").presets for layer in layers]
    chosen = [name for some in named for name in some] + list(presets)
    merged: dict[str, Any] = {}
    for layer in (*(load_preset(name).compare for name in ("default", *chosen)), *layers):
        choose_data(merged.get("config"), layer.get("data"))
        forget_left_out(merged, layer)
        merge(merged, layer)
    merged["presets"] = tuple(dict.fromkeys(chosen))
    grid = build(GridConfig, merged, "the grid")
    if not grid.generators:
        raise UsageError("there is nothing to compare: name at least one generator")
    compared = (*grid.generators, *grid.controls)
    # A preset's own baseline may be left out of what is compared.
    if any(layer.get("baseline") is not None for layer in layers) and grid.baseline not in compared:
        raise UsageError(f"baseline {grid.baseline!r} is not compared; {nearest(str(grid.baseline), compared)}")
    return grid


def forget_left_out(merged: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Take options and rates out of `merged` whose generator or objective it compares and `layer` leaves out.

    So a grid file can be made with fewer generators; options of what nobody compares are still refused.
    """
    later = {**merged, **layer}
    before, after = ({*_names(at, "generators"), *_names(at, "controls")} for at in (merged, later))
    generators, objectives = before - after, {*_names(merged, "objectives")} - {*_names(later, "objectives")}

    def of_left_out(pair: str) -> bool:
        generator, _, objective = pair.partition("+")
        return generator in generators or objective in objectives

    _drop(merged, "generator_options", generators.__contains__)
    _drop(merged, "objective_options", objectives.__contains__)
    _drop(merged, "rates", of_left_out)


def _drop(merged: dict[str, Any], field: str, unwanted: Callable[[str], bool]) -> None:
    """Remove the unwanted names of a field; what is malformed stays, and is refused when the grid is built."""
    if isinstance(merged.get(field), dict):
        merged[field] = {k: v for k, v in merged[field].items() if not (isinstance(k, str) and unwanted(k))}


def _names(layer: Mapping[str, Any], field: str) -> list[str]:
    """The names that a layer lists; one that is malformed is refused when the grid is built."""
    names = layer.get(field) or ()
    return [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []


def choose_data(config: Any, names: Any) -> None:
    """Take the data set that `config` names out of it, where a list names others: options that come later are for those.

    Its options go with it, unless all of the list are that data set. One of several in the list keeps name and options.
    """
    data = config.get("data") if isinstance(config, Mapping) else None
    if not names or not isinstance(names, list | tuple) or not isinstance(data, dict) or "name" not in data:
        return
    kinds = {str(name).partition(":")[0] for name in names}
    own = str(data["name"]).partition(":")[0]
    if own in kinds and len(kinds) > 1 and data.get("options"):
        return
    del data["name"]
    if own not in kinds:
        data.pop("options", None)

"""The points of a grid: one completed configuration for each combination, and what all of them must share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from ld3m_plugin.comparison.grid import GridConfig, read_grid
from ld3m_plugin.comparison.rates import FACTOR, check_own_rates, check_rates_of_all, is_rate_of, times, with_rates
from ld3m_plugin.comparison.unnamed_settings import applies, of_all_protocols, of_data, of_objective
from ld3m_plugin.config import GeneratorConfig, OptimizerConfig, RunConfig, changed, completed, resolve
from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.options import Options
from ld3m_plugin.registry import current_registry

#: Settings in which the rows of one comparison may differ: the questions that it asks.
_ASKED = {"generator", "objective", "data", "images_per_class", "seed", "optimizer"}
_BACKENDS = ("generator", "objective")
#: A run that distils; an initialiser's pictures, written by a generator in no step; real images, drawn anew for each network.
RowKind = Literal["run", "start", "random real"]
#: What every grid has lists of, and their options: a varied one would be no seed, and no question, of the statistics.
_LISTED = {"seed": "--seeds", "images_per_class": "--ipc", "data.name": "--data"}
#: Settings that change no result: rows with other values would be one row.
_WITHOUT_EFFECT = {"device", "checkpoint_every", "render_batch", "trackers", "evaluation.random_real"}


@dataclass(frozen=True)
class Point:
    """One row of a grid before it is made.

    Attributes:
        config: completed settings; of a row that matches nothing, those of any run beside it but for the generator.
        generator: registered name, or that of an initialiser; None for random real images.
        varied: the values of this row's varied settings, by path.
        kind: `start` is an initialiser's pictures as they are.
    """

    config: RunConfig
    generator: str | None
    varied: Mapping[str, Any] = field(default_factory=dict)
    kind: RowKind = "run"

    @property
    def question(self) -> tuple[Any, ...]:
        """What rows share that differ in their generator and seed alone."""
        others = {path: value for path, value in self.varied.items() if not path.startswith("generator.")}
        config = self.config
        return config.objective.name, config.data.name, config.images_per_class, repr(sorted(others.items()))


def points(grid: GridConfig) -> list[Point]:
    """All points of a grid in the order of its table, without twins, then those of initialisers and of random real images.

    Raises:
        UsageError: an unknown name, option or value; settings that differ and were not asked about; no final evaluation.
    """
    base = resolve(presets=grid.presets, layers=[grid.config])
    _check_names(grid, base)
    controls = [name for name in grid.controls if not is_initialiser(name) and name not in grid.generators]
    generators = [*grid.generators, *(name for name in controls if _lender(grid, _options("generator", name)))]
    found: dict[str, Point] = {}
    for point in _combinations(grid, base, generators):
        found.setdefault(repr((point.generator, point.config)), point)
    runs = list(found.values())
    check_own_rates(grid, [run.config for run in runs])
    check_equal_terms(runs, grid)
    unmatched = list(_once_each_evaluation(runs))
    starts = [_start(grid, name, point) for name in grid.controls if is_initialiser(name) for point in unmatched]
    wants_real = grid.random_real and base.evaluation.random_real
    real = [replace(point, generator=None, kind="random real") for point in unmatched] if wants_real else []
    return [*runs, *(point for point in starts if point is not None), *real]


def without_rows(grid: GridConfig, found: Sequence[Point]) -> list[str]:
    """A line for each initialiser among the controls that has no point, as no compared generator lends it options.

    None for the controls of presets: nobody asked for these one by one.
    """
    if grid.controls == read_grid(presets=grid.presets).controls:
        return []
    made = {point.generator for point in found if point.kind == "start"}
    lacking = [name for name in grid.controls if is_initialiser(name) and name not in made]
    return [
        f"no rows of {name}: no compared generator lends the options that it takes; give them, such as -G {name}."
        f"{next(iter(wanted.model_fields))}=VALUE, or leave it out of --controls"
        for name in lacking
        if (wanted := _options("initialiser", name))
    ]


def _combinations(grid: GridConfig, base: RunConfig, generators: list[str]) -> Iterator[Point]:
    objectives = grid.objectives or (base.objective.name,)
    data, images = grid.data or (base.data.name,), grid.images_per_class or (base.images_per_class,)
    seeds, values = grid.seeds or (base.seed,), [[(path, value) for value in grid.vary[path]] for path in grid.vary]
    factors: tuple[float | None, ...] = grid.rate_factors or (None,)
    for name, count, objective, generator, varied, factor, seed in product(
        data, images, objectives, generators, list(product(*values)), factors, seeds
    ):
        settings = [("images_per_class", count), ("seed", seed), *of_data(grid, name), *of_all_protocols(grid)]
        options = of_objective(grid, objective, objectives)
        applying = [(path, value) for path, value in varied if applies(path, generator, objective)]
        config = times(_configuration(grid, base, generator, [*settings, *options, *applying]), factor)
        shown = {path: value for path, value in applying if is_rate_of(config, path)}
        yield Point(config, generator, shown if factor is None else {**shown, FACTOR: factor})


def _configuration(grid: GridConfig, base: RunConfig, generator: str, settings: Sequence[tuple[str, Any]]) -> RunConfig:
    """The completed settings of one run.

    Options that presets and `config` give to their own generator apply to every generator with an option of that name: two
    generators that take a prior are compared on the same one. A learning rate applies to every generator with such a latent.
    """
    model = _options("generator", generator) if generator != base.generator.name else None
    shared = {key: value for key, value in base.generator.options.items() if model and key in model.model_fields}
    is_control = generator in grid.controls and generator not in grid.generators
    lender = _lender(grid, _options("generator", generator)) if is_control else None
    lent = grid.generator_options.get(lender, {}) if lender else {}
    known = _options("generator", generator)
    lent = {key: value for key, value in lent.items() if known and key in known.model_fields}
    own = {**shared, **lent, **grid.generator_options.get(generator, {})}
    paths = [("generator.name", generator), *((f"generator.options.{key}", value) for key, value in own.items())]
    varied = [(path, value) for path, value in settings if path.startswith("generator.")]
    others = [(path, value) for path, value in settings if not path.startswith("generator.")]
    config = resolve(presets=grid.presets, layers=[grid.config], settings=[*others, *paths, *varied])
    config = with_rates(config, grid, base, others)
    return completed(changed(config, "evaluation", random_real=False))


def _check_names(grid: GridConfig, base: RunConfig) -> None:
    """Reject names that are not registered, options of what is not compared, and rates of no generator's latents."""
    registry = current_registry()
    objectives = grid.objectives or (base.objective.name,)
    for kind, names, options in (
        ("generator", (*grid.generators, *grid.controls), grid.generator_options),
        ("objective", objectives, grid.objective_options),
    ):
        for name in names:
            if name in grid.controls and name not in grid.generators:
                check_control(name)
            else:
                registry.find(kind, name)
        for name in options:
            if name not in names:
                raise UsageError(f"{kind} {name!r} has options and is not compared; {nearest(name, names)}")
    for path, values in grid.vary.items():
        if not values:
            raise UsageError(f"vary: {path} has no values")
        if path in _LISTED:
            raise UsageError(f"vary: {path} has an option of its own: give {_LISTED[path]}")
        if path in _WITHOUT_EFFECT:
            raise UsageError(f"vary: {path} changes no result: leave it out")
        if path.split(".")[0] in _BACKENDS and not path.startswith(tuple(f"{kind}.options." for kind in _BACKENDS)):
            raise UsageError(f"vary: {path} is no option: vary generator.options.KEY or objective.options.KEY")
        if not any(applies(path, g, o) for g, o in product(grid.generators, objectives)):
            raise UsageError(f"vary: {path} is an option of nothing that is compared")
    check_rates_of_all(grid, base)


def is_initialiser(control: str) -> bool:
    """Whether a control is an initialiser; a generator of that name comes first."""
    registry = current_registry()
    return control not in registry.names("generator") and control in registry.names("initialiser")


def check_control(name: str) -> None:
    """Raise `UsageError` if there is neither a generator nor an initialiser of that name."""
    registry = current_registry()
    known = [*registry.names("generator"), *registry.names("initialiser")]
    if name not in known:
        raise UsageError(f"control {name!r} is neither a generator nor an initialiser; {nearest(name, known)}")


def _lender(grid: GridConfig, wanted: type[Options] | None) -> str | None:
    """The first compared generator that has all of these options, which it lends to a control; None without one."""
    models = {name: _options("generator", name) for name in grid.generators}
    if wanted is None:
        return None
    return next((n for n, m in models.items() if m and wanted.model_fields.keys() <= m.model_fields.keys()), None)


def _options(kind: str, name: str) -> type[Options] | None:
    return current_registry().options(kind, name)


def _once_each_evaluation(runs: Iterable[Point]) -> Iterator[Point]:
    """One point for each data set, images per class, seed and evaluation: for images that know no objective and learn nothing."""
    found: dict[str, Point] = {}
    for point in runs:
        config = point.config
        key = repr((config.data, config.images_per_class, config.seed, config.evaluation))
        others = {p: v for p, v in point.varied.items() if p.split(".")[0] not in (*_BACKENDS, "optimizer")}
        found.setdefault(key, replace(point, varied=others))
    yield from found.values()


def _start(grid: GridConfig, name: str, beside: Point) -> Point | None:
    """The pictures of an initialiser beside a run; None where no compared generator lends the options that it takes.

    One that is varied, such as a prior, is lent by none: the row would have the value of no run.
    """
    if grid.controls_through is None:
        raise UsageError(f"control {name!r} is an initialiser: name in controls_through the generator that takes it")
    wanted = current_registry().options("initialiser", name) or Options
    given, lent = grid.generator_options.get(name, {}), {}
    if wanted.model_fields:
        lender = _lender(grid, wanted)
        varied = {key for key in wanted.model_fields if f"generator.options.{key}" in grid.vary}
        if varied - given.keys() or (lender is None and not given):
            return None
        base = resolve(presets=grid.presets, layers=[grid.config])
        data = of_data(grid, beside.config.data.name)
        lent = {} if lender is None else _configuration(grid, base, lender, data).generator.options
    shared = {key: value for key, value in lent.items() if key in wanted.model_fields}
    options = {"init": name, "init_options": {**shared, **given}}
    chosen = GeneratorConfig(name=grid.controls_through, options={k: v for k, v in options.items() if v})
    changes = {"generator": chosen, "optimizer": OptimizerConfig(), "steps": 0, "seconds": None}
    return Point(completed(beside.config.model_copy(update=changes)), name, beside.varied, "start")


def check_equal_terms(runs: Iterable[Point], grid: GridConfig) -> None:
    """Check that rows of one question differ in generator, optimiser and seed alone, and all rows in what was asked.

    Raises:
        UsageError: two differ in more, the protocol trains each run's images at a rate of their own, or the final images are
            not evaluated.
    """
    runs = list(runs)
    first: dict[Any, Point] = {}
    for run in runs:
        for key, free in (((), _ASKED), (run.question, {"generator", "optimizer", "seed"})):
            base = first.setdefault(key, run)
            varied = {path.split(".")[0] for path in (*base.varied, *run.varied)} if not key else set()
            one, other = (p.config.model_dump(mode="json", exclude=free | varied) for p in (base, run))
            found = difference(one, other)
            if found is not None:
                path, first_value, value = found
                raise UsageError(
                    f"{path} is {first_value!r} for {_who(base)} and {value!r} for {_who(run)}: make it the same, compared rows "
                    "in what was asked only"
                )
    _check_shared_options(runs, grid)
    for run in runs:
        protocol = get_protocol(run.config.evaluation.protocol)
        if protocol.learned_rate:
            raise UsageError(
                f"protocol {protocol.name!r} trains at a learning rate that each run learns, and random real images have none: "
                "choose a protocol with a fixed rate, such as dsa-2021"
            )
    if not all(run.config.evaluation.final for run in runs):
        raise UsageError("evaluation.final is false, and a comparison needs the final evaluations: leave it true")


def _check_shared_options(runs: list[Point], grid: GridConfig) -> None:
    """Check that objectives agree in the options that they share, such as network and augmentation, where none was asked for."""
    asked = {key for options in grid.objective_options.values() for key in options}
    asked |= {path.split(".")[2] for path in grid.vary if path.startswith("objective.options.")}
    first: dict[str, Point] = {}
    for run in runs:
        for key, value in run.config.objective.options.items():
            other = first.setdefault(key, run).config.objective
            if key not in asked and other.options[key] != value:
                raise UsageError(
                    f"{key} is {other.options[key]!r} for {other.name} and {value!r} for {run.config.objective.name}: make it "
                    f"the same, or ask for it with -O {run.config.objective.name}.{key}=VALUE"
                )


def _who(point: Point) -> str:
    return f"{point.generator} with {point.config.objective.name}"


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

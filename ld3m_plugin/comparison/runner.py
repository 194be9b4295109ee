"""A comparison: the same settings with several generators, a run folder each, and one table.

    NAME/ld3m/  NAME/pixel/ ...  NAME/comparison.json  NAME/comparison.png

Random real images stand in the table once. Their row depends on the seed, the labels and the networks alone, and all runs
share these: it is evaluated with one run and left out of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ld3m_plugin.backends import default_rates, get_generator
from ld3m_plugin.comparison.finished_runs import (
    NUMBERS,
    PICTURES,
    ComparedRun,
    Comparison,
    check_folder,
    read_run,
    write_comparison,
)
from ld3m_plugin.config import RunConfig, completed, decisive, dump, read_yaml, resolve
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError, UsageError, nearest
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.options import build
from ld3m_plugin.registry import current_registry
from ld3m_plugin.runs.provenance import check_same_data, check_same_provenance, provenance
from ld3m_plugin.runs.run import Reporter, resume, start
from ld3m_plugin.storage import write_text

_SAME = ("data", "objective", "images_per_class", "steps", "seed", "evaluation")


def configurations(
    generators: Iterable[str],
    files: Iterable[Path] = (),
    presets: Iterable[str] = (),
    settings: Iterable[tuple[str, Any]] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, RunConfig]:
    """A configuration for each generator: files, presets and settings as `config.resolve` takes them.

    Options that a file or preset gives to the generator it names are for every generator with an option of that name: two
    generators that take a prior are compared on the same one. Learning rates are for every generator that has a latent of
    that name.

    Args:
        generators: registered names.
        options: more options, by generator; they win over those of files and presets.

    Raises:
        UsageError: what `config.resolve` raises, a setting of one generator, or a learning rate of no generator's latent.
    """
    files, presets, settings = tuple(files), tuple(presets), tuple(settings)
    for path, _ in settings:
        if path.partition(".")[0] == "generator":
            raise UsageError(
                f"{path!r} is of one generator: choose with --generators, and give options with -G NAME.KEY=VALUE"
            )
    base = resolve(files, presets, settings)
    configs = {}
    for name in generators:
        known = _option_names(name) if name != base.generator.name else ()
        shared = {key: value for key, value in base.generator.options.items() if key in known}
        chosen = [*shared.items(), *(options or {}).get(name, {}).items()]
        paths = [(f"generator.options.{key}", value) for key, value in chosen]
        configs[name] = resolve(files, presets, [*settings, ("generator.name", name), *paths])
    given = base.optimizer.learning_rates
    return _with_learning_rates(configs, given, resolve(files, presets)) if given else configs


def compare(
    configs: Mapping[str, RunConfig],
    folder: Path,
    *,
    task: Task | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Run each configuration into `folder/NAME`, one after the other, and put their evaluations into one table.

    Called again with the same configurations it goes on: a finished run is read, a stopped one resumed.

    Args:
        configs: by name, in the order of the table; they differ in the generator, its options and the optimiser alone.
        task: the data; default: what the configurations name.

    Raises:
        UsageError: the configurations differ in more, a run in `folder` was made with others, or something else is there.
        ArtefactError: a finished run is damaged, or its data, prior or experts have changed since.
        HostError: a run failed; those that are finished stay, and the same call goes on.
    """
    reporter = reporter or Reporter()
    wanted = {name: completed(config) for name, config in configs.items()}
    _check_names(wanted, folder)
    _check_comparable(wanted)
    saved = {name: _saved(folder / name) for name in wanted}
    check_folder(folder)
    for name, config in wanted.items():
        _check_same_settings(folder / name, saved[name], config)
    wanted = _with_random_real_once(wanted, saved)
    finished = {name: read_run(name, folder / name, config) for name, config in wanted.items()}
    waiting = [name for name, run in finished.items() if run is None]
    if waiting:
        task = task or _task(wanted[waiting[0]])
        _check_finished([run for run in finished.values() if run is not None], task)
        _check_waiting(wanted, saved, waiting, task)
    runs = []
    for name, config in wanted.items():
        run = finished[name]
        if run is not None:
            reporter.say(f"{name} is finished: read from {folder / name}")
        else:
            run = _run(name, config, folder / name, saved[name], task, reporter)
        runs.append(run)
    return write_comparison(folder, runs)


def _run(
    name: str,
    config: RunConfig,
    folder: Path,
    saved: RunConfig | None,
    task: Task | None,
    reporter: Reporter,
) -> ComparedRun:
    if saved is None:
        start(config, folder, task=task, reporter=reporter)
    else:
        # Device, chunks, checkpoints, trackers and the row of random real images may be others now; nothing else can be.
        write_text(folder / "config.yaml", dump(config))
        resume(folder, task=task, reporter=reporter)
    # From the disk, so that what is read another time gives the same numbers.
    run = read_run(name, folder, config)
    if run is None:
        raise ArtefactError(f"the results of the run in {folder} are gone: is another program writing there?")
    return run


def _option_names(generator: str) -> Iterable[str]:
    model = getattr(current_registry().resolve("generator", generator), "Options", None)
    return () if model is None else model.model_fields


def _with_learning_rates(
    configs: Mapping[str, RunConfig], given: Mapping[str, float], base: RunConfig
) -> dict[str, RunConfig]:
    """The configurations, each with those of the given learning rates that are of its generator's latents.

    Args:
        base: what files and presets say: rates of the generator they name are left out where it is not compared.
    """
    names = {name: _latents(config) for name, config in configs.items()}
    known = set().union(*names.values())
    left_out = (_latents(base) & set(base.optimizer.learning_rates)) - known
    # A generator without defaults does not say what its latents are called: it gets the rates that no other claims.
    own = {name: latents or set(given) - known - left_out for name, latents in names.items()}
    for latent in set(given) - left_out - set().union(*own.values()):
        raise UsageError(f"optimizer.learning_rates has {latent!r}; {nearest(latent, known)}")
    return {
        name: _with_rates(config, {k: given[k] for k in given if k in own[name]}) for name, config in configs.items()
    }


def _latents(config: RunConfig) -> set[str]:
    return set(default_rates(get_generator(config.generator.name, **config.generator.options)))


def _with_rates(config: RunConfig, rates: Mapping[str, float]) -> RunConfig:
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"learning_rates": dict(rates)})})


def _check_names(configs: Mapping[str, RunConfig], folder: Path) -> None:
    if not configs:
        raise UsageError("there is nothing to compare: name at least one generator")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: choose another --out")
    for name in configs:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in (NUMBERS, PICTURES):
            raise UsageError(f"{name!r} cannot name a run folder: use letters, digits, '-', '_' and '.'")


def _check_comparable(configs: Mapping[str, RunConfig]) -> None:
    """Accuracies side by side invite to be compared: what stands there differs in nothing but the generator."""
    (first, base), *others = (
        (name, config.model_dump(mode="json", include=set(_SAME))) for name, config in configs.items()
    )
    for name, settings in others:
        difference = _difference(base, settings)
        if difference is not None:
            path, one, other = difference
            raise UsageError(
                f"{path} is {one!r} for {first} and {other!r} for {name}: what is compared may differ in its generator and "
                "optimizer alone, make it the same"
            )
    protocol = get_protocol(base["evaluation"]["protocol"])
    if protocol.learned_rate:
        raise UsageError(
            f"protocol {protocol.name!r} trains on each generator's images at another learning rate, and random real images at "
            "none of their own: compare with a protocol of a fixed rate, such as dsa-2021"
        )
    if not base["evaluation"]["final"]:
        raise UsageError("evaluation.final is false: a comparison is of final evaluations, leave it true")


def _difference(one: Mapping[str, Any], other: Mapping[str, Any], above: str = "") -> tuple[str, Any, Any] | None:
    """The first setting that is not the same in both: its dotted path and its two values."""
    for key in dict.fromkeys((*one, *other)):
        first, second, path = one.get(key), other.get(key), f"{above}{key}"
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            difference = _difference(first, second, f"{path}.")
            if difference is not None:
                return difference
        elif first != second:
            return path, first, second
    return None


def _saved(folder: Path) -> RunConfig | None:
    """The configuration of the run in `folder`, None where nothing is there."""
    path = folder / "config.yaml"
    if path.is_file():
        return build(RunConfig, read_yaml(path), str(path))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and not a run: choose another --out, or move it away")
    return None


def _check_same_settings(folder: Path, saved: RunConfig | None, wanted: RunConfig) -> None:
    if saved is None:
        return
    difference = _difference(_deciding(saved), _deciding(wanted))
    if difference is not None:
        path, old, new = difference
        raise UsageError(
            f"the run in {folder} was made with {path} = {old!r}, and now it is {new!r}: choose another --out, take the former "
            "setting, or delete that folder to make the run again"
        )


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The settings that decide what a finished run holds, but for the row of random real images."""
    evaluation = config.evaluation.model_dump(mode="json", exclude={"random_real"})
    return {**decisive(config), "steps": config.steps, "evaluation": evaluation}


def _with_random_real_once(
    configs: Mapping[str, RunConfig], saved: Mapping[str, RunConfig | None]
) -> dict[str, RunConfig]:
    """The configurations, one of them with random real images, if they are wanted."""
    # The run that has them already; else the first that is not made yet; else the first, which evaluates again.
    with_them = [name for name, config in saved.items() if config is not None and config.evaluation.random_real]
    new = [name for name, config in saved.items() if config is None]
    chosen = [*with_them, *new, *configs][0]
    return {
        name: config.model_copy(
            update={
                "evaluation": config.evaluation.model_copy(
                    update={"random_real": config.evaluation.random_real and name == chosen}
                )
            }
        )
        for name, config in configs.items()
    }


def _task(config: RunConfig) -> Task:
    return load_task(config.data.name, **config.data.options)


def _check_finished(runs: Iterable[ComparedRun], task: Task) -> None:
    """What is about to run has the data, priors and experts of today: finished runs beside it must have been made with these."""
    for run in runs:
        check_same_data(run.folder, task)
        state = Distillation(run.config, task=task)
        check_same_provenance(run.folder, run.distilled.metadata, provenance(state))


def _check_waiting(
    configs: Mapping[str, RunConfig],
    saved: Mapping[str, RunConfig | None],
    waiting: Sequence[str],
    task: Task,
) -> None:
    """What would stop a later run should stop the comparison before the hours of the first."""
    for name in waiting[1:]:  # the first is about to tell by itself
        if saved[name] is None:
            Distillation(configs[name], task=task)

"""`ld3m compare`: the same settings with several generators, and one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ld3m_plugin.cli.common import (
    ConfigFiles,
    DataName,
    DataSettings,
    Device,
    ImagesPerClass,
    Networks,
    ObjectiveName,
    ObjectiveOptions,
    PresetNames,
    ProtocolName,
    Repeats,
    Seed,
    Settings,
    Steps,
    comma_list,
    compose,
    orderly_end,
    warn_about_plugins,
)
from ld3m_plugin.errors import HostError, UsageError, nearest

if TYPE_CHECKING:
    from ld3m_plugin.comparison.table import Comparison
    from ld3m_plugin.config import RunConfig

_GENERATORS = ("ld3m", "autoencoder", "pixel")


def compare_command(
    generators: Annotated[
        str | None,
        typer.Option(
            "--generators", help=f"Generators, separated by commas [the preset's, else {','.join(_GENERATORS)}]."
        ),
    ] = None,
    objective: ObjectiveName = None,
    generator_options: Annotated[
        list[str] | None,
        typer.Option(
            "-G",
            metavar="NAME.KEY=VALUE",
            help="Option of that generator alone; repeatable, wins over --config and --preset.",
        ),
    ] = None,
    objective_options: ObjectiveOptions = None,
    data: DataName = None,
    data_options: DataSettings = None,
    ipc: ImagesPerClass = None,
    steps: Steps = None,
    seed: Seed = None,
    device: Device = None,
    protocol: ProtocolName = None,
    networks: Networks = None,
    repeats: Repeats = None,
    config: ConfigFiles = None,
    preset: PresetNames = None,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder of the comparison, new or one that was stopped: it goes on [a new one in runs/]."
        ),
    ] = None,
) -> None:
    """Distil with several generators under the same settings, and compare what networks learn from the images.

    Settings compose as for `ld3m distill`. Options that --config or --preset gives to the generator it names are for every
    compared generator with an option of that name (such as prior); -G NAME.KEY=VALUE wins.

    Each generator has a run folder below --out. Given again with the same --out, the command goes on: finished runs are read,
    a stopped one is resumed.
    """
    names = comma_list(generators) or _of_presets(preset) or list(_GENERATORS)
    flags: dict[str, Any] = {
        "objective.name": objective,
        "data.name": data,
        "images_per_class": ipc,
        "steps": steps,
        "seed": seed,
        "device": device,
        "evaluation.protocol": protocol,
        "evaluation.networks": comma_list(networks) or None,
        "evaluation.repeats": repeats,
    }
    given = compose(settings, flags, {"objective": objective_options, "data": data_options})
    options = _options_by_name(generator_options, names)
    from ld3m_plugin.comparison.runner import configurations

    _run(configurations(names, config or (), preset or (), given, options), out)


def _of_presets(presets: list[str] | None) -> list[str]:
    from ld3m_plugin.presets import load_preset

    lists = [load_preset(preset).compare.get("generators") for preset in presets or ()]
    return next((names for names in reversed(lists) if names), [])


def _options_by_name(texts: list[str] | None, names: list[str]) -> dict[str, dict[str, Any]]:
    from ld3m_plugin.config import parse_assignment

    options: dict[str, dict[str, Any]] = {}
    for text in texts or ():
        path, value = parse_assignment(text)
        # A name may have dots of its own: the longest that fits is meant.
        name = max((name for name in names if path.startswith(f"{name}.")), key=len, default=None)
        if name is None:
            first, dot, _ = path.partition(".")
            found = nearest(first, names) if dot else "write -G NAME.KEY=VALUE"
            raise UsageError(f"-G {text}: {first!r} is none of the generators that are compared; {found}")
        options.setdefault(name, {})[path.removeprefix(f"{name}.")] = value
    return options


def _run(configs: dict[str, RunConfig], out: Path | None) -> None:
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.cli.progress import ConsoleReporter
    from ld3m_plugin.comparison.runner import compare
    from ld3m_plugin.runs.run import free_folder

    warn_about_plugins()
    keep_freed_memory()
    folder = out or free_folder(Path("runs"), next(iter(configs.values())), "compare")
    again = "the same command goes on" if out else f"the same command with --out {folder} goes on"
    with ConsoleReporter() as reporter, orderly_end(lambda: reporter.say(f"stopped; {again}")):
        try:
            comparison = compare(configs, folder, reporter=reporter)
        except HostError:
            if out is None and folder.is_dir():
                reporter.say(f"what is finished stays; {again}")
            raise
    _print_result(comparison)


def _print_result(comparison: Comparison) -> None:
    from ld3m_plugin.cli.progress import clock, print_table
    from ld3m_plugin.comparison.finished_runs import NUMBERS, PICTURES

    print_table(comparison.table)
    for run in comparison.runs:
        seconds = f"distilled in {clock(run.seconds)}, evaluated in {clock(run.evaluation.seconds)}"
        typer.echo(f"{run.name}: {seconds}, run folder {run.folder}")
    names = ", ".join(run.name for run in comparison.runs)
    typer.echo(f"pictures: {comparison.folder / PICTURES} (a row each: {names})")
    typer.echo(f"numbers: {comparison.folder / NUMBERS}")

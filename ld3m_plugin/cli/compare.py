"""`ld3m compare`: the same settings with several generators, and one table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import comma_list, compose, orderly_end, pairs, prepare_process, say
from ld3m_plugin.errors import HostError, UsageError, nearest


def compare_command(
    generators: Annotated[
        str | None,
        typer.Option(
            "--generators", help="Generators, separated by commas [see `ld3m presets`: the preset's, or default's]."
        ),
    ] = None,
    objective: flags.ObjectiveName = None,
    generator_options: Annotated[
        list[str] | None,
        typer.Option(
            "-G",
            metavar="NAME.KEY=VALUE",
            help="Option of one generator; repeatable, overrides --config and --preset.",
        ),
    ] = None,
    objective_options: flags.ObjectiveOptions = None,
    data: flags.DataName = None,
    data_options: flags.DataSettings = None,
    ipc: flags.ImagesPerClass = None,
    steps: flags.Steps = None,
    seed: flags.Seed = None,
    device: flags.Device = None,
    protocol: flags.ProtocolName = None,
    networks: flags.Networks = None,
    repeats: flags.Repeats = None,
    config: flags.ConfigFiles = None,
    preset: flags.PresetNames = None,
    settings: flags.Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the comparison; a stopped one goes on [a new folder in runs/]."),
    ] = None,
) -> None:
    """Distil with several generators under the same settings, and compare what networks learn from the images.

    Settings compose as for `ld3m distill`. Options that --config or --preset gives to the generator it names apply to every
    compared generator with an option of that name (such as prior); -G NAME.KEY=VALUE overrides them.

    Each generator has a run folder below --out. To go on with a stopped comparison, give the same command with the same --out:
    finished runs are read, a stopped one is resumed.
    """
    given = compose(locals(), ("objective", "data"))
    names = comma_list(generators) or _preset_generators(preset or ())
    options = _options_by_name(generator_options, names)
    from ld3m_plugin.cli.progress import ConsoleReporter, clock
    from ld3m_plugin.cli.tables import print_accuracies
    from ld3m_plugin.comparison.comparison_table import NUMBERS, PICTURES
    from ld3m_plugin.comparison.runner import compare
    from ld3m_plugin.comparison.settings import configurations
    from ld3m_plugin.runs.folder import is_taken, new_folder

    configs = configurations(names, config or (), preset or (), given, options)
    prepare_process()
    with ExitStack() as claim:
        folder = out or claim.enter_context(new_folder(Path("runs"), configs[names[0]], "compare"))
        again = "the same command goes on" if out else f"the same command with --out {folder} goes on"
        stop = orderly_end(
            lambda: reporter.say(f"stopped; {again}"), kept=lambda: f"finished runs and checkpoints are kept, {again}"
        )
        with ConsoleReporter() as reporter, stop:
            try:
                comparison = compare(configs, folder, reporter=reporter)
            except HostError:
                if out is None and is_taken(folder):
                    reporter.say(f"finished runs stay; {again}")
                raise
    print_accuracies(comparison.table)
    for run in comparison.runs:
        seconds = f"distilled in {clock(run.seconds)}, evaluated in {clock(run.evaluation.seconds)}"
        say(f"{run.name}: {seconds}, run folder {run.folder}")
    say(f"pictures: {folder / PICTURES} (a row each: {', '.join(run.name for run in comparison.runs)})")
    say(f"numbers: {folder / NUMBERS}")


def _preset_generators(presets: Sequence[str]) -> list[str]:
    """The generators that the last preset with such a list compares."""
    from ld3m_plugin.presets import load_preset

    lists = [load_preset(preset).compare.get("generators") for preset in reversed(presets)]
    return next(filter(None, lists), None) or load_preset("default").compare["generators"]


def _options_by_name(texts: list[str] | None, names: list[str]) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for path, value in pairs(texts):
        # A name may contain dots itself: take the longest that fits.
        name = max((name for name in names if path.startswith(f"{name}.")), key=len, default=None)
        if name is None:
            first, dot, _ = path.partition(".")
            found = nearest(first, names) if dot else "write -G NAME.KEY=VALUE"
            raise UsageError(f"-G {path}: {first!r} is not one of the compared generators; {found}")
        options.setdefault(name, {})[path.removeprefix(f"{name}.")] = value
    return options

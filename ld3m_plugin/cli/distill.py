"""`ld3m distill`: compose a configuration, run it, and print where the results are."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import compose, naming_lines, orderly_end, prepare_process, say
from ld3m_plugin.cli.completion import keys, listed, names
from ld3m_plugin.errors import UsageError


def distill_command(
    generator: Annotated[
        str | None,
        typer.Option(
            *("--generator", "-g"),
            autocompletion=names("generator"),
            help=f"Generator: {listed('generator')} [see `ld3m presets show default`].",
        ),
    ] = None,
    objective: flags.ObjectiveName = None,
    generator_options: Annotated[
        list[str] | None,
        typer.Option(
            "-G",
            metavar="KEY=VALUE",
            autocompletion=keys("generator"),
            help="Option of the generator (`ld3m plugins show NAME`); repeatable.",
        ),
    ] = None,
    objective_options: flags.ObjectiveOptions = None,
    data: flags.DataName = None,
    data_options: flags.DataSettings = None,
    select_on: flags.SelectOn = None,
    skip_unreadable: Annotated[
        bool | None, typer.Option("--skip-unreadable", help="Skip image files that cannot be read.")
    ] = None,
    ipc: flags.ImagesPerClass = None,
    steps: flags.Steps = None,
    seed: flags.Seed = None,
    render_batch: Annotated[
        int | None,
        typer.Option(
            "--render-batch", metavar="N", min=1, help="Latents rendered at once; fewer need less memory [all]."
        ),
    ] = None,
    autocast: Annotated[str | None, typer.Option("--autocast", help="Mixed precision: none or bf16.")] = None,
    device: flags.Device = None,
    evaluate: Annotated[
        bool | None, typer.Option("--evaluate/--no-evaluate", help="Evaluate the final images [yes].")
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option("--evaluate-every", min=0, metavar="N", help="Also evaluate every N steps [0: only at the end]."),
    ] = None,
    protocol: flags.ProtocolName = None,
    networks: flags.Networks = None,
    repeats: flags.Repeats = None,
    test_per_class: flags.TestPerClass = None,
    config: flags.ConfigFiles = None,
    preset: flags.PresetNames = None,
    settings: flags.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder, new or empty [runs/ and a name from the settings].")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Go on with the stopped run in this folder. With it go --device and, if data or a prior has moved, where it "
            "lies now: --data NAME:PATH, -D root=PATH, -G prior=PATH.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Distil a data set into a few synthetic images.

    Settings compose in this order, later ones win: --config, --preset, --set, then all other options.

    \b
    Examples:
      ld3m distill --steps 50
      ld3m distill -g pixel --data imagefolder:PATH -D image_size=64
      ld3m distill --preset demo --set optimizer.name=sgd --dry-run
      ld3m distill --resume runs/NAME
    """
    given = compose(locals())
    others = {"--config": config, "--preset": preset, "--out": out, "--dry-run": dry_run}
    if resume is not None:
        refused = [name for name, value in others.items() if value]
        refused += [path for path, _ in given if path not in ("device", "data.name") and ".options." not in path]
        if refused:
            raise UsageError(
                f"{refused[0]} cannot be given with --resume, since the run goes on with its own settings: leave it out; "
                "`ld3m evaluate RUN` evaluates with others"
            )
    if dry_run:
        with naming_lines(config or (), [path for path, _ in given]):
            _print_plan(config, preset, given, as_json)
        return
    from ld3m_plugin.cli.progress import ConsoleReporter
    from ld3m_plugin.cli.tables import print_accuracies
    from ld3m_plugin.config import resolve
    from ld3m_plugin.runs import run
    from ld3m_plugin.runs.folder import START_NOW, new_folder, run_name

    with ExitStack() as claim, naming_lines(config or (), [path for path, _ in given]):
        if resume is not None:
            places = [(path, value) for path, value in given if path != "device"]
            go = partial(run.resume, resume, device=device, places=places)
        else:
            resolved = resolve(config or (), preset or (), given)
            go = partial(run.start, resolved, out or claim.enter_context(new_folder(Path("runs"), run_name(resolved))))
        prepare_process()
        with ConsoleReporter() as reporter, orderly_end(reporter.stopped, kept=reporter.kept):
            result = go(reporter=reporter)
    if as_json:
        results = None if result.evaluation is None else result.evaluation.record()
        typer.echo(json.dumps({"folder": str(result.folder), "results": results}, indent=2))
        return
    if result.evaluation is not None:
        print_accuracies(result.evaluation)
    distilled = result.folder / "distilled"
    strip = result.folder / START_NOW
    more = f", {strip}" if strip.is_file() else ""
    say(f"pictures: {distilled / 'grid.png'}{more} and {distilled / 'images'}")
    say(f"distilled set: {distilled} (ld3m_plugin.DistilledSet.load reads it)")


def _print_plan(
    config: list[Path] | None, preset: list[str] | None, given: list[tuple[str, Any]], as_json: bool
) -> None:
    """Print the settings that a run would have, complete; built-in backends are not loaded for it."""
    from ld3m_plugin.config import completed, dump, resolve

    whole = completed(resolve(config or (), preset or (), given))
    typer.echo(json.dumps(whole.model_dump(mode="json"), indent=2) if as_json else dump(whole).rstrip())

"""`ld3m distill`: compose a configuration, run it, say where everything is."""

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
from ld3m_plugin.errors import UsageError

if TYPE_CHECKING:
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.runs.run import RunResult


def distill_command(
    generator: Annotated[str | None, typer.Option("--generator", "-g", help="Generator by name [ld3m].")] = None,
    objective: ObjectiveName = None,
    generator_options: Annotated[
        list[str] | None, typer.Option("-G", metavar="KEY=VALUE", help="Option of the generator; repeatable.")
    ] = None,
    objective_options: ObjectiveOptions = None,
    data: DataName = None,
    data_options: DataSettings = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out image files that cannot be read.")
    ] = False,
    ipc: ImagesPerClass = None,
    steps: Steps = None,
    seed: Seed = None,
    render_batch: Annotated[
        int | None, typer.Option("--render-batch", min=1, help="Latents rendered at a time, to save memory [all].")
    ] = None,
    autocast: Annotated[str | None, typer.Option("--autocast", help="Mixed precision: none or bf16.")] = None,
    device: Device = None,
    evaluate: Annotated[
        bool | None, typer.Option("--evaluate/--no-evaluate", help="Evaluate the final images [yes].")
    ] = None,
    evaluate_every: Annotated[
        int | None,
        typer.Option("--evaluate-every", min=0, help="Also evaluate every that many steps [0: only the end]."),
    ] = None,
    protocol: ProtocolName = None,
    networks: Networks = None,
    repeats: Repeats = None,
    config: ConfigFiles = None,
    preset: PresetNames = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder, new or empty [runs/ and a name from the settings].")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Go on with the stopped run in this folder; takes only --device beside."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
) -> None:
    """Distil a data set into a few synthetic images.

    Settings compose in this order, later ones win: --config files, --preset, --set, then the options of their own.
    """
    flags: dict[str, Any] = {
        "generator.name": generator,
        "objective.name": objective,
        "data.name": data,
        "data.options.skip_unreadable": skip_unreadable or None,
        "images_per_class": ipc,
        "steps": steps,
        "seed": seed,
        "render_batch": render_batch,
        "autocast": autocast,
        "device": device,
        "evaluation.final": evaluate,
        "evaluation.every": evaluate_every,
        "evaluation.protocol": protocol,
        "evaluation.networks": comma_list(networks) or None,
        "evaluation.repeats": repeats,
    }
    options = {"generator": generator_options, "objective": objective_options, "data": data_options}
    given = compose(settings, flags, options)
    if resume is not None:
        if settings or any(path != "device" for path, _ in given) or config or preset or out or dry_run:
            raise UsageError("--resume takes the settings of the run it goes on with: leave all but --device out")
        _run(resume, None, device)
        return
    from ld3m_plugin.config import completed, dump, resolve

    resolved = resolve(config or (), preset or (), given)
    if dry_run:
        typer.echo(dump(completed(resolved)).rstrip())
        return
    _run(out, resolved)


def _run(folder: Path | None, config: RunConfig | None, device: str | None = None) -> None:
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.cli.progress import ConsoleReporter
    from ld3m_plugin.runs import run

    warn_about_plugins()
    keep_freed_memory()
    with ConsoleReporter() as reporter, orderly_end(reporter.stopped):
        if config is None:
            assert folder is not None  # noqa: S101 (for the type checker: --resume gave it)
            result = run.resume(folder, device=device, reporter=reporter)
        else:
            result = run.start(config, folder or run.free_folder(Path("runs"), config), reporter=reporter)
    _print_result(result)


def _print_result(result: RunResult) -> None:
    from ld3m_plugin.cli.progress import print_table

    if result.evaluation is not None:
        print_table(result.evaluation)
    distilled = result.folder / "distilled"
    typer.echo(f"pictures: {distilled / 'grid.png'} and {distilled / 'images'}")
    typer.echo(f"distilled set: {distilled} (ld3m_plugin.DistilledSet.load reads it)")

"""`ld3m compare`: a grid of runs on equal terms, and one table; `ld3m compare status` says how far it is."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import check_name, comma_list, orderly_end, pairs, prepare_process, say
from ld3m_plugin.cli.completion import listed, names
from ld3m_plugin.errors import ExitCode

if TYPE_CHECKING:
    from ld3m_plugin.comparison.grid import GridConfig
    from ld3m_plugin.comparison.grid_runner import GridResult
    from ld3m_plugin.launchers.launcher import Launcher

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def compare_command(
    context: typer.Context,
    generators: Annotated[
        str | None,
        typer.Option(
            *("--generators", "-g"),
            autocompletion=names("generator", several=True),
            help=f"Separated by commas: {listed('generator')} [the preset's, or those of preset default].",
        ),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            *("--objectives", "--objective", "-o"),
            autocompletion=names("objective", several=True),
            help=f"Separated by commas: {listed('objective')} [the preset's].",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            autocompletion=names("dataset"),
            help=f"Data set, NAME or NAME:ARGUMENT: {listed('dataset')}; repeatable [the preset's].",
        ),
    ] = None,
    ipc: Annotated[
        str | None, typer.Option("--ipc", help="Synthetic images per class, separated by commas [1].")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", "--seed", help="Seeds, separated by commas [0].")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="PATH=VALUE,VALUE",
            help="A setting and its values, such as generator.options.steps=5,10; repeatable.",
        ),
    ] = None,
    generator_options: Annotated[
        list[str] | None, typer.Option("-G", metavar="NAME.KEY=VALUE", help="Option of one generator; repeatable.")
    ] = None,
    objective_options: Annotated[
        list[str] | None,
        typer.Option(
            "-O", metavar="NAME.KEY=VALUE", help="Option of one objective; KEY=VALUE where there is one; repeatable."
        ),
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--rate",
            metavar="NAME.LATENT=VALUE",
            help="Learning rate of one generator, or of one with one objective (NAME is ld3m or ld3m+mtt); repeatable.",
        ),
    ] = None,
    rate_factors: Annotated[
        str | None,
        typer.Option("--rate-factors", help="Factors on all learning rates, separated by commas: a row for each."),
    ] = None,
    data_options: flags.DataSettings = None,
    select_on: flags.SelectOn = None,
    steps: flags.Steps = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="What is equal: steps, or seconds=N of steps for each row [steps].")
    ] = None,
    equal: Annotated[
        str | None,
        typer.Option("--equal", help="images (per class), or storage: equally many learned numbers [images]."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Generator that the others are compared with [glad, or the first].")
    ] = None,
    random_real: Annotated[
        bool | None, typer.Option("--random-real/--no-random-real", help="Evaluate random real images as well [yes].")
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            help="Generators beside the compared ones, and initialisers as they are (mean, centres, medoids, ...), separated by "
            "commas, or none [autoencoder,centres,medoids,latent-centres,samples].",
        ),
    ] = None,
    device: flags.Device = None,
    protocol: flags.ProtocolName = None,
    networks: flags.Networks = None,
    repeats: flags.Repeats = None,
    test_per_class: flags.TestPerClass = None,
    preset: flags.PresetNames = None,
    config: flags.ConfigFiles = None,
    settings: flags.Settings = None,
    grid: Annotated[
        list[Path] | None,
        typer.Option(
            "--grid", metavar="FILE", help="YAML file with all of this; other options override it; repeatable."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", metavar="N", min=1, help="Rows made at a time [1].")] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of each row; they decide its bits [1].")
    ] = None,
    launcher: Annotated[
        str, typer.Option("--launcher", help="Where rows run (`ld3m plugins` lists launchers).")
    ] = "local",
    launcher_options: Annotated[
        list[str] | None, typer.Option("--launcher-option", metavar="KEY=VALUE", help="Option of it; repeatable.")
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            "--reuse",
            metavar="FOLDER",
            help="Take finished rows from this comparison, whatever version made them; repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the comparison; a stopped one goes on [a new folder in runs/]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings of the grid and stop.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Distil with several generators and objectives on equal terms, and compare what networks learn from the images.

    Every combination is a row: a process of its own with a run folder below --out. Settings compose in this order, later ones
    win: --preset, --grid, --config, --set, then all other options. Options of a preset's own generator apply to every generator
    that has them. A row that fails stops no other. To go on, give the same command with the same --out: finished rows are read,
    stopped ones are resumed.

    \b
    Examples:
      ld3m compare --preset demo
      ld3m compare --generators ld3m,pixel -G ld3m.prior=my-prior --data imagefolder:PATH -D image_size=64
      ld3m compare --generators ld3m,pixel --seeds 0,1,2 --jobs 2 --out runs/both
      ld3m compare status runs/both
    """
    if context.invoked_subcommand is not None:
        return
    check_name(out)
    given = {**locals(), "networks": comma_list(networks) or None}
    from ld3m_plugin.cli.grid_options import grid_settings
    from ld3m_plugin.comparison.grid import read_grid

    wanted = read_grid(tuple(grid or ()), tuple(preset or ()), grid_settings(given))
    if dry_run:
        _print_plan(wanted, as_json)
        return
    chosen = _launcher(launcher, jobs, launcher_options)
    from ld3m_plugin.cli.progress import GridConsole
    from ld3m_plugin.comparison.grid_runner import run_grid
    from ld3m_plugin.runs.folder import new_folder

    prepare_process()
    console = GridConsole()
    with ExitStack() as claim:
        folder = out or claim.enter_context(new_folder(Path("runs"), f"compare-{'-'.join(wanted.generators)}"))
        again = "the same command goes on" if out else f"the same command with --out {folder} goes on"
        kept = f"finished rows and checkpoints are kept, {again}"
        with orderly_end(lambda: console.say(f"stopped; {again}"), kept=lambda: kept):
            result = run_grid(wanted, folder, chosen, reuse=reuse or (), reporter=console)
    _print(result, as_json)
    if result.failed:
        say(f"error: {len(result.failed)} of {len(result.manifest.rows)} rows are not finished; {again}", err=True)
        raise typer.Exit(int(ExitCode.FAILED))


@app.command("status")
def status_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")], as_json: flags.Json = False
) -> None:
    """Say how far a comparison is: rows that are finished, running, failed (with the error), stopped and left.

    Example: ld3m compare status runs/both
    """
    from dataclasses import asdict

    from ld3m_plugin.cli.tables import print_columns
    from ld3m_plugin.comparison.grid_runner import status

    manifest, rows = status(folder)
    if as_json:
        known = {row.id: manifest.state(row) for row in manifest.rows}
        content = [
            {"id": row.id, "label": row.label, **asdict(known[row.id]), "progress": progress}
            for progress, some in rows.items()
            for row in some
        ]
        typer.echo(json.dumps(content, indent=2))  # ASCII: control characters are escaped
        return
    lines = []
    for progress, some in rows.items():
        lines += [(progress, row.label, str(manifest.state(row).starts), manifest.state(row).line) for row in some]
    print_columns(lines, ("state", "row", "starts", "error"))
    order = ("finished", "running", "failed", "stopped", "left")
    say(", ".join(f"{len(rows.get(name, ()))} {name}" for name in order) + f" of {len(manifest.rows)} rows")


@app.command("row", hidden=True)
def row_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison.")],
    row: Annotated[str, typer.Argument(help="Identity of one of its rows.")],
    until_end_of_input: Annotated[
        bool, typer.Option("--until-end-of-input", help="End, with a checkpoint, when standard input ends.")
    ] = False,
) -> None:
    """Make one row in this process: what launchers start."""
    from ld3m_plugin.cli.progress import ConsoleReporter
    from ld3m_plugin.comparison.row_process import end_with_input, run_row

    if until_end_of_input:
        end_with_input()
    prepare_process()
    with ConsoleReporter() as reporter:
        code = run_row(folder, row, reporter)
    raise typer.Exit(code)


def _launcher(name: str, jobs: int | None, texts: list[str] | None) -> Launcher:
    from ld3m_plugin.options import build
    from ld3m_plugin.registry import current_registry

    options = dict(pairs(texts)) | ({} if jobs is None else {"jobs": jobs})
    factory = current_registry().resolve("launcher", name)
    made: Launcher = factory(build(factory.Options, options, f"launcher {name!r}"))
    return made


def _print_plan(wanted: GridConfig, as_json: bool) -> None:
    """Check all settings without reading data or priors; print the grid, with the number of its rows as a comment."""
    from ld3m_plugin.comparison.points import points, without_rows
    from ld3m_plugin.plain_yaml import dump_yaml

    found = points(wanted)
    for problem in without_rows(wanted, found):
        say(f"warning: {problem}")
    kinds: Counter[str] = Counter(point.kind for point in found)
    content = wanted.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    parts = {"run": "that distil", "start": "of pictures that learn nothing", "random real": "of random real images"}
    counted = ", ".join(f"{kinds[kind]} {part}" for kind, part in parts.items() if kinds[kind])
    typer.echo(f"# {kinds.total()} rows: {counted}\n{dump_yaml(content).rstrip()}")


def _print(result: GridResult, as_json: bool) -> None:
    from ld3m_plugin.cli.tables import print_columns
    from ld3m_plugin.comparison.exports import TABLES, shown
    from ld3m_plugin.comparison.results import PICTURES
    from ld3m_plugin.comparison.seed_table import SEEDS
    from ld3m_plugin.report.writing import write_report

    folder = result.manifest.folder
    table = None if result.summary is None else shown(result.summary)
    if as_json:
        rows = [] if table is None else [dict(zip(table.titles, row, strict=True)) for row in table.rows]
        content = {"folder": str(folder), "rows": rows, "note": table and table.note, "failed": dict(result.failed)}
        typer.echo(json.dumps({**content, "report": str(write_report(folder))}, indent=2))
        return
    if table is not None:
        print_columns(table.rows, table.titles)
        say(table.note)
        say(f"tables: {', '.join(str(folder / name) for name in (*TABLES, SEEDS))}")
    if result.pictures:
        say(f"pictures: {folder / PICTURES} (a row each: {', '.join(result.pictures)})")
    say(f"report: {write_report(folder)}")

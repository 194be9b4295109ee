"""`ld3m experts`: plan, train, import and list the expert trajectories of trajectory matching (MTT)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ld3m_plugin.cli.common import assignments, orderly_end, prepare_process, read_data, say
from ld3m_plugin.cli.flags import DataName, DataSettings, Device, Json, Seed
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.objectives.mtt import FOLDER, FOLDER_VARIABLE

if TYPE_CHECKING:
    from ld3m_plugin.objectives.mtt.store.expert_plan import Plan
    from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
    from ld3m_plugin.objectives.mtt.store.listing import Entry

app = typer.Typer(help="Expert trajectories for trajectory matching (MTT).", rich_markup_mode=None)

Root = Annotated[
    Path,
    typer.Option("--root", envvar=FOLDER_VARIABLE, help="Folder of all stores; each choice of settings has its own."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        *("-S", "--set"),
        metavar="KEY=VALUE",
        help="Setting of the experts, such as rate=0.02; repeatable. A wrong name lists the right ones.",
    ),
]
Count = Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="Experts in all [100].")]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="Epochs of each expert [15].")]


@app.command("plan")
def plan_command(
    root: Root = FOLDER,
    data: DataName = None,
    data_options: DataSettings = None,
    settings: Settings = None,
    count: Count = None,
    epochs: Epochs = None,
    seed: Seed = None,
    timed: Annotated[
        int, typer.Option("--timed", metavar="N", min=0, help="Updates to time for the estimate; 0: none.")
    ] = 3,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Estimate the cost of experts: parameters, disk, and time from a few real updates. Nothing is written.

    Example: ld3m experts plan --data imagenet:nette --count 100
    """
    from dataclasses import asdict

    from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts

    prepare_process()
    options = _options(settings, count=count, epochs=epochs, seed=seed)
    plan = plan_experts(root, read_data(data, assignments(data_options), device).for_training(), options, timed=timed)
    if as_json:
        typer.echo(json.dumps(asdict(plan), indent=2, default=str))
    else:
        print_columns(_plan_rows(plan))


@app.command("train")
def train_command(
    root: Root = FOLDER,
    data: DataName = None,
    data_options: DataSettings = None,
    settings: Settings = None,
    count: Count = None,
    epochs: Epochs = None,
    seed: Seed = None,
    first: Annotated[
        int, typer.Option("--first", metavar="N", min=0, help="Index of the first expert to train here.")
    ] = 0,
    device: Device = None,
) -> None:
    """Train the missing experts. The same command continues a training that was stopped.

    Example: ld3m experts train --data imagenet:nette --count 100
    """
    from ld3m_plugin.cli.progress import TrainingConsole
    from ld3m_plugin.errors import UsageError
    from ld3m_plugin.objectives.mtt.store.train_experts import train_experts

    prepare_process()
    options = _options(settings, count=count, epochs=epochs, seed=seed)
    if first >= options.count:
        raise UsageError(f"--first {first} leaves no expert to train: there are {options.count} in all (--count)")
    smaller = "lower -S together, or choose a smaller -S batch_size or network"
    with TrainingConsole() as reporter, orderly_end(reporter.stopped, smaller):
        task = read_data(data, assignments(data_options), device).for_training()
        reporter.say(task.described())
        folder = train_experts(root, task, options, first=first, reporter=reporter)
    say(f"experts: {folder} (`ld3m experts list --root {root}` lists the stores)")


@app.command("import")
def import_command(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="replay_buffer_*.pt files, or folders of them.")
    ],
    root: Root = FOLDER,
    data: DataName = None,
    data_options: DataSettings = None,
    settings: Settings = None,
    seed: Seed = None,
) -> None:
    """Copy the experts of MTT and GLaD buffers into a store.

    Give the data and settings that the buffers were made with. Shapes are verified; the other settings are taken as given.

    Example: ld3m experts import replay_buffer_0.pt --data cifar10
    """
    from ld3m_plugin.cli.progress import TrainingConsole
    from ld3m_plugin.objectives.mtt.store.published import import_experts

    prepare_process()
    options = _options(settings, seed=seed)
    with TrainingConsole() as reporter, orderly_end(reporter.stopped):
        task = read_data(data, assignments(data_options), "cpu").for_training()
        folder, copied, there = import_experts(root, task, options, sources, reporter=reporter)
    before = f", {there} were there before" if there else ""
    say(f"{copied} experts copied{before}: {folder}")


@app.command("list")
def list_command(
    root: Root = FOLDER,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read all weights and compare them with their digests; damage is exit code 1."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the stores of a root: data, network, experts, epochs, disk, and whether they are complete.

    Example: ld3m experts list
    """
    from dataclasses import asdict

    from ld3m_plugin.errors import ExitCode
    from ld3m_plugin.objectives.mtt.store.listing import list_experts

    entries = list_experts(root, verify=verify)
    if as_json:
        typer.echo(json.dumps([{**asdict(entry), "status": entry.status} for entry in entries], indent=2))
    else:
        titles = ("key", "data", "network", "experts", "epochs", "dtype", "loss", "disk", "status")
        print_columns([*map(_cells, entries)], titles)
        for problem in (problem for entry in entries for problem in entry.problems):
            say(f"warning: {problem}", err=True)
    if verify and any(entry.status == "damaged" for entry in entries):
        raise typer.Exit(int(ExitCode.FAILED))


def _options(settings: list[str] | None, **flags: int | None) -> TrainingOptions:
    from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
    from ld3m_plugin.options import build

    given = {name: value for name, value in flags.items() if value is not None}
    return build(TrainingOptions, {**assignments(settings), **given}, "experts")


def _plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    from ld3m_plugin.cli.progress import clock

    disk = f"{size(plan.expert_bytes)} an expert, {size(plan.missing_bytes)} to write, {size(plan.free_bytes)} free"
    rows: list[tuple[str, ...]] = [
        ("folder", str(plan.folder)),
        ("experts", f"{plan.count}, {plan.count - plan.missing} of them stored"),
        ("epochs", f"{plan.epochs}, {plan.updates} updates an expert"),
        ("parameters", f"{plan.parameters:,}"),
        ("disk", disk),
    ]
    if plan.seconds is not None:
        rows.append(("time", f"about {clock(plan.seconds)}, at {plan.seconds_an_update:.3g} s an update, an estimate"))
    if plan.missing_bytes > plan.free_bytes:
        rows.append(("warning", "the disk is too small: choose fewer experts or epochs, or -S dtype=bf16"))
    return rows


def _cells(entry: Entry) -> tuple[str, ...]:
    count = f"{entry.count} of {entry.wanted}" if entry.count < entry.wanted else str(entry.count)
    imported = f", {entry.imported} imported" if entry.imported else ""
    loss = "" if entry.loss is None else f"{entry.loss:.3f}"
    named = (entry.key, entry.data, entry.network, count + imported, f"0-{entry.epochs}")
    return (*named, entry.dtype, loss, size(entry.bytes), entry.status)


def size(count: int) -> str:
    """Write a number of bytes in binary units.

    >>> size(512), size(2462760), size(39404160 * 5000)
    ('512 B', '2.35 MiB', '183.5 GiB')
    """
    from rich.filesize import pick_unit_and_suffix

    unit, suffix = pick_unit_and_suffix(count, ["B", "KiB", "MiB", "GiB"], 1024)
    digits = 0 if unit == 1 else 2 if count < 10 * unit else 1
    return f"{count / unit:.{digits}f} {suffix}"

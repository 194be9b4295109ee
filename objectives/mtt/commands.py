"""`ld3m experts`: the store of expert trajectories that trajectory matching (MTT) reads.

The command group is about that one store, and calls it as a library of the project: no objective is chosen by its name here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ld3m_plugin.cli.common import Device, Json, assignments, orderly_end, warn_about_plugins

if TYPE_CHECKING:
    from ld3m_plugin.objectives.mtt.store.expert_plan import Plan
    from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
    from ld3m_plugin.objectives.mtt.store.listing import Entry
    from ld3m_plugin.task import Task

#: Names that -S takes; the model itself is not imported for a help text.
NAMES = (
    "network, network_settings, epochs, rate, momentum, weight_decay, batch_size, dsa, seed, count, "
    "keep_epochs, dtype, together"
)

app = typer.Typer(help="Expert trajectories for trajectory matching (MTT).", rich_markup_mode=None)

# The variable is the one that the objective reads: both must look in the same place.
Root = Annotated[
    Path,
    typer.Option("--root", envvar="LD3M_EXPERTS", help="Folder of all stores; each choice of settings has one in it."),
]
Data = Annotated[str, typer.Option("--data", help="Data set: NAME or NAME:ARGUMENT.")]
DataOptions = Annotated[
    list[str] | None, typer.Option("-D", metavar="KEY=VALUE", help="Option of the data set; repeatable.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("-S", "--set", metavar="KEY=VALUE", help=f"Setting of the experts; repeatable: {NAMES}."),
]
Count = Annotated[int | None, typer.Option("--count", min=1, help="Experts in all [100].")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of each [15].")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random streams [0].")]
ROOT = Path("experts")
DATA = "fashion-mnist"


@app.command("plan")
def plan_command(
    root: Root = ROOT,
    data: Data = DATA,
    data_options: DataOptions = None,
    settings: Settings = None,
    count: Count = None,
    epochs: Epochs = None,
    seed: Seed = None,
    timed: Annotated[int, typer.Option("--timed", min=0, help="Updates that are timed for the estimate; 0: none.")] = 3,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """What experts will cost: parameters, disk, and time from a few real updates. Nothing is written."""
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts

    warn_about_plugins()
    keep_freed_memory()
    options = _options(settings, count=count, epochs=epochs, seed=seed)
    plan = plan_experts(root, _load(data, data_options, device), options, timed=timed)
    typer.echo(json.dumps(_plan_record(plan), indent=2) if as_json else _plan_text(plan))


@app.command("train")
def train_command(
    root: Root = ROOT,
    data: Data = DATA,
    data_options: DataOptions = None,
    settings: Settings = None,
    count: Count = None,
    epochs: Epochs = None,
    seed: Seed = None,
    first: Annotated[
        int, typer.Option("--first", min=0, help="Leave out the experts before this number, which others train.")
    ] = 0,
    device: Device = None,
) -> None:
    """Train the experts that are missing. A training that was stopped goes on when the same command is given again."""
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.cli.training_progress import TrainingConsole
    from ld3m_plugin.errors import UsageError
    from ld3m_plugin.objectives.mtt.store.train_experts import train_experts

    warn_about_plugins()
    keep_freed_memory()
    options = _options(settings, count=count, epochs=epochs, seed=seed)
    if first >= options.count:
        raise UsageError(f"--first {first} leaves none of {options.count} experts: --count is their number in all")
    smaller = "lower -S together, or choose a smaller -S batch_size or network"
    with TrainingConsole() as reporter, orderly_end(reporter.stopped, smaller):
        task = _load(data, data_options, device)
        reporter.say(f"data: {task.source}")
        folder = train_experts(root, task, options, first=first, reporter=reporter)
    typer.echo(f"experts: {folder} (`ld3m experts list --root {root}` shows what is there)")


@app.command("import")
def import_command(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="replay_buffer_*.pt files, or folders of them.")
    ],
    root: Root = ROOT,
    data: Data = DATA,
    data_options: DataOptions = None,
    settings: Settings = None,
    seed: Seed = None,
) -> None:
    """Copy the experts of MTT and GLaD buffers into a store.

    Data and settings say what the buffers were made with: shapes are checked, the rest is your word.
    """
    from ld3m_plugin.cli.training_progress import TrainingConsole
    from ld3m_plugin.objectives.mtt.store.published import import_experts

    warn_about_plugins()
    options = _options(settings, seed=seed)
    with TrainingConsole() as reporter, orderly_end(reporter.stopped):
        task = _load(data, data_options, "cpu")
        folder, copied, there = import_experts(root, task, options, sources, reporter=reporter)
    before = f", {there} were there" if there else ""
    typer.echo(f"{copied} experts copied{before}: {folder}")


@app.command("list")
def list_command(
    root: Root = ROOT,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read all weights and compare them with their digests; damage is exit code 1."),
    ] = False,
    as_json: Json = False,
) -> None:
    """What is in a root: data, network, experts, epochs, disk, and whether it is complete."""
    from ld3m_plugin.errors import ExitCode
    from ld3m_plugin.objectives.mtt.store.listing import list_experts

    entries = list_experts(root, verify=verify)
    if as_json:
        typer.echo(json.dumps([_entry_record(entry) for entry in entries], indent=2))
    else:
        _print_table(entries)
    if verify and any(entry.status == "damaged" for entry in entries):
        raise typer.Exit(int(ExitCode.FAILED))


def _print_table(entries: list[Entry]) -> None:
    titles = ("key", "data", "network", "experts", "epochs", "dtype", "loss", "disk", "status")
    rows = [titles, *map(_cells, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for problem in (problem for entry in entries for problem in entry.problems):
        typer.echo(f"warning: {problem}", err=True)


def _options(settings: list[str] | None, **flags: int | None) -> TrainingOptions:
    from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
    from ld3m_plugin.options import build

    given = {name: value for name, value in flags.items() if value is not None}
    return build(TrainingOptions, {**assignments(settings), **given}, "experts")


def _load(data: str, data_options: list[str] | None, device: str | None) -> Task:
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.distillation.loop import choose_device
    from ld3m_plugin.options import build
    from ld3m_plugin.task import DataOptions as Options

    read = build(Options, assignments(data_options), f"data set {data!r}").model_dump()
    return load_task(data, device=choose_device(device or "auto"), **read).for_training()


def _plan_record(plan: Plan) -> dict[str, Any]:
    from dataclasses import asdict

    derived = {"missing_bytes": plan.missing_bytes, "seconds": plan.seconds}
    return {**asdict(plan), "folder": str(plan.folder), **derived}


def _plan_text(plan: Plan) -> str:
    from ld3m_plugin.cli.progress import clock

    there = plan.count - plan.missing
    lines = [
        ("folder", str(plan.folder)),
        ("experts", f"{plan.count}, {there} of them there"),
        ("epochs", f"{plan.epochs}, {plan.updates} updates an expert"),
        ("parameters", f"{plan.parameters:,}"),
        (
            "disk",
            f"{size(plan.expert_bytes)} an expert, {size(plan.missing_bytes)} to write, {size(plan.free_bytes)} free",
        ),
    ]
    if plan.seconds is not None:
        lines.append(("time", f"about {clock(plan.seconds)}, at {plan.seconds_an_update:.3g} s an update, an estimate"))
    if plan.missing_bytes > plan.free_bytes:
        lines.append(("warning", "they do not fit: fewer experts or epochs, or -S dtype=bf16"))
    width = max(len(title) for title, _ in lines)
    return "\n".join(f"{title.ljust(width)}  {fact}" for title, fact in lines)


def _entry_record(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(entry), "status": entry.status}


def _cells(entry: Entry) -> tuple[str, ...]:
    imported = f", {entry.imported} imported" if entry.imported else ""
    count = f"{entry.count} of {entry.wanted}" if entry.count < entry.wanted else str(entry.count)
    loss = "" if entry.loss is None else f"{entry.loss:.3f}"
    return (
        *(entry.key, entry.data, entry.network, count + imported),
        f"0-{entry.epochs}",
        *(entry.dtype, loss, size(entry.bytes), entry.status),
    )


def size(count: int) -> str:
    """Bytes as people read them.

    >>> size(512), size(2462760), size(39404160 * 5000)
    ('512 B', '2.35 MiB', '183.5 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB" if value < 10 else f"{value:.1f} GiB"

"""`ld3m prior`: train, convert and describe the pre-trained models that generators render with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli.common import Device, Json, assignments, orderly_end, warn_about_plugins

app = typer.Typer(help="Pre-trained models that generators render with.", rich_markup_mode=None)

Settings = Annotated[
    list[str] | None,
    typer.Option("-S", metavar="KEY=VALUE", help="Option of the kind (`ld3m plugins show KIND`); repeatable."),
]
KindName = Annotated[
    str | None, typer.Option("--kind", help="Kind of the prior by name [the one that recognises the path].")
]


@app.command("train")
def train_command(
    kind: Annotated[str, typer.Argument(help="Kind of the prior by name; `ld3m plugins` lists them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the prior: new, empty, or of a stopped training.")],
    data: Annotated[str, typer.Option("--data", help="Data set: NAME or NAME:ARGUMENT.")] = "fashion-mnist",
    data_options: Annotated[
        list[str] | None, typer.Option("-D", metavar="KEY=VALUE", help="Option of the data set; repeatable.")
    ] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random streams.")] = 0,
    device: Device = None,
) -> None:
    """Train a prior on the training images of a data set.

    `ld3m plugins show KIND` lists the options that -S sets. A training that was stopped goes on when the same command is
    given again.
    """
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.cli.training_progress import TrainingConsole
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.distillation.loop import choose_device
    from ld3m_plugin.options import build
    from ld3m_plugin.priors.service import check_training, train_prior
    from ld3m_plugin.task import DataOptions

    warn_about_plugins()
    keep_freed_memory()
    options = assignments(settings)
    check_training(kind, out, options)
    read = build(DataOptions, assignments(data_options), f"data set {data!r}").model_dump()
    smaller = f"choose a smaller batch or model with -S (`ld3m plugins show {kind}`)"
    with TrainingConsole() as reporter, orderly_end(reporter.stopped, smaller):
        task = load_task(data, device=choose_device(device or "auto"), **read)
        reporter.say(f"data: {task.source}")
        reporter.say(f"training a prior of kind {kind!r} on {task.device}, folder {out}")
        train_prior(kind, task, out, options, seed=seed, reporter=reporter)
    typer.echo(f"prior: {out} (`ld3m prior info {out}` describes it)")


@app.command("convert")
def convert_command(
    source: Annotated[Path, typer.Argument(help="File or folder as it was published.")],
    out: Annotated[Path, typer.Argument(help="Folder of the prior, new or empty.")],
    settings: Settings = None,
    kind: KindName = None,
) -> None:
    """Convert published weights into a prior folder."""
    from ld3m_plugin.allocator import keep_freed_memory
    from ld3m_plugin.priors.service import convert_prior

    warn_about_plugins()
    keep_freed_memory()
    name = convert_prior(source, out, assignments(settings), kind=kind)
    typer.echo(f"prior of kind {name}: {out} (`ld3m prior info {out}` describes it)")


@app.command("info")
def info_command(
    path: Annotated[Path, typer.Argument(help="Folder of a prior.")], kind: KindName = None, as_json: Json = False
) -> None:
    """What a prior is: its kind, and the facts that the kind knows."""
    from ld3m_plugin.priors.service import describe_prior

    warn_about_plugins()
    facts = describe_prior(path, kind=kind)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for title, fact in facts.items():
        first, *more = fact.splitlines() or [""]
        typer.echo(f"{title.ljust(width)}  {first}".rstrip())
        for line in more:
            typer.echo(f"{' ' * width}  {line}".rstrip())

"""`ld3m prior`: train, convert and describe the pre-trained models that generators render with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import assignments, check_name, orderly_end, prepare_process, read_data, say
from ld3m_plugin.cli.completion import listed, names
from ld3m_plugin.cli.tables import print_columns

app = typer.Typer(help="Pre-trained models that generators render with.", rich_markup_mode=None)

Settings = Annotated[
    list[str] | None,
    typer.Option("-S", metavar="KEY=VALUE", help="Option of the kind (`ld3m plugins show KIND`); repeatable."),
]
KindName = Annotated[
    str | None, typer.Option("--kind", help="Kind of the prior by name [the kind that recognises the path].")
]


@app.command("train")
def train_command(
    kind: Annotated[
        str,
        typer.Argument(autocompletion=names("prior"), help=f"Kind of the prior: {listed('prior')}."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the prior: new, empty, or of a stopped training.")],
    data: flags.DataName = None,
    data_options: flags.DataSettings = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all random streams.")] = 0,
    device: flags.Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the options of the training and stop.")] = False,
) -> None:
    """Train a prior on the training images of a data set.

    `ld3m plugins show KIND` lists the options that -S sets. To go on with a stopped training, give the same command again.

    \b
    Examples:
      ld3m prior train ldm --data imagefolder:PATH -D image_size=64 -S size=tiny -S finetune=embedded-emoji --out my-prior
      ld3m prior train gan --data cifar10 -S augment=crop_cutout --out my-gan
    """
    from ld3m_plugin.priors.service import check_training, train_prior

    check_name(out)
    prepare_process()
    options = assignments(settings)
    checked = check_training(kind, out, options)[1]
    if dry_run:
        from ld3m_plugin.plain_yaml import dump_yaml

        typer.echo(dump_yaml({"kind": kind, "out": str(out), "options": checked.model_dump(mode="json")}).rstrip())
        return
    from ld3m_plugin.cli.progress import TrainingConsole

    smaller = f"choose a smaller batch or model with -S (`ld3m plugins show {kind}`)"
    with TrainingConsole() as reporter, orderly_end(reporter.stopped, smaller, reporter.kept):
        task = read_data(data, assignments(data_options), device)
        reporter.say(task.described())
        reporter.say(f"training a prior of kind {kind!r} on {task.device}, folder {out}")
        train_prior(kind, task, out, options, seed=seed, reporter=reporter)
    say(f"prior: {out} (`ld3m prior info {out}` describes it)")


@app.command("convert")
def convert_command(
    source: Annotated[Path, typer.Argument(help="Published file or folder.")],
    out: Annotated[Path, typer.Argument(help="Folder of the prior, new or empty.")],
    settings: Settings = None,
    kind: KindName = None,
) -> None:
    """Convert published weights into a prior folder.

    Example: ld3m prior convert cin256-v2.ckpt cin256-v2
    """
    from ld3m_plugin.priors.service import convert_prior

    check_name(out)
    prepare_process()
    name = convert_prior(source, out, assignments(settings), kind=kind)
    say(f"prior of kind {name}: {out} (`ld3m prior info {out}` describes it)")


@app.command("info")
def info_command(
    path: Annotated[Path, typer.Argument(help="Folder of a prior.")], kind: KindName = None, as_json: flags.Json = False
) -> None:
    """Describe a prior: its kind, and facts that depend on the kind.

    Example: ld3m prior info my-prior
    """
    from ld3m_plugin.priors.service import describe_prior

    prepare_process()
    facts = describe_prior(path, kind=kind)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        print_columns(list(facts.items()))

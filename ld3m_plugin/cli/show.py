"""`ld3m show`: pictures and main numbers of a run or a distilled set in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import prepare_process, say
from ld3m_plugin.errors import UsageError

if TYPE_CHECKING:
    from ld3m_plugin.artefact.distilled_set import DistilledSet


def show_command(
    path: Annotated[Path, typer.Argument(help="Folder of a run or of a distilled set.")],
    images: Annotated[int, typer.Option("--images", metavar="N", min=0, help="Pictures shown at most.")] = 10,
    width: Annotated[int, typer.Option("--width", metavar="N", min=4, help="Columns of a picture.")] = 24,
    as_json: flags.Json = False,
) -> None:
    """Show a distilled set in the terminal: its pictures in half blocks, what made it, and its accuracies.

    Example: ld3m show runs/NAME --images 20
    """
    from ld3m_plugin.comparison.manifest import MANIFEST

    if (path / MANIFEST).is_file():
        raise UsageError(
            f"{path} is a comparison: `ld3m compare status {path}` lists its rows, `ld3m report {path}` shows them"
        )
    prepare_process()
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.cli.tables import print_accuracies, print_columns
    from ld3m_plugin.report.run_view import final_evaluation

    distilled = DistilledSet.load(path)
    evaluation = final_evaluation(distilled.metadata)
    facts = _facts(distilled)
    if as_json:
        results = None if evaluation is None else evaluation.record()
        typer.echo(
            json.dumps({"path": str(path), **facts, "classes": distilled.class_names, "results": results}, indent=2)
        )
        return
    _print_pictures(distilled, images, width + width % 2)
    print_columns([(name, str(value)) for name, value in facts.items()])
    if evaluation is None:
        say("not evaluated: ld3m evaluate FOLDER")
    else:
        print_accuracies(evaluation)


def _print_pictures(distilled: DistilledSet, most: int, side: int) -> None:
    from rich.console import Console

    from ld3m_plugin.artefact.shown_images import shown_indices
    from ld3m_plugin.cli.half_blocks import lines_of_pictures
    from ld3m_plugin.errors import visible
    from ld3m_plugin.images.hard_labels import hard_labels

    shown = shown_indices(distilled.labels, most) if most else []
    if not shown:
        return
    hard = hard_labels(distilled.labels)
    names = [visible(distilled.class_names[int(hard[index])]) for index in shown]
    console = Console(markup=False, emoji=False, highlight=False)
    for line in lines_of_pictures(distilled.denormalised()[shown], names, console, side):
        console.print(line, no_wrap=True, crop=False, overflow="ignore")


def _facts(distilled: DistilledSet) -> dict[str, Any]:
    config = distilled.metadata.get("config")
    config = config if isinstance(config, dict) else {}
    named = {
        part: config[part].get("name")
        for part in ("generator", "objective", "data")
        if isinstance(config.get(part), dict)
    }
    count, channels, side = len(distilled.images), *distilled.images.shape[1:3]
    return {
        **named,
        **{name: config[name] for name in ("images_per_class", "steps", "seed") if name in config},
        "images": f"{count} of {side}x{side} pixels, {channels} channel{'s' if channels > 1 else ''}",
    }

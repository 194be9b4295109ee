"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from ld3m_plugin.cli.common import say
from ld3m_plugin.errors import visible

if TYPE_CHECKING:
    from ld3m_plugin.evaluation import Evaluation

_PIPED_WIDTH = 100_000  # characters: nothing is wrapped or cut


def print_columns(rows: Sequence[Sequence[str]], titles: Sequence[str] = ()) -> None:
    """Print rows in aligned columns. A terminal wraps long cells; elsewhere a row is one line, whatever its length.

    Args:
        titles: one for each column; none for a table without a heading.
    """
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    columns = [Column(visible(title), overflow="fold") for title in titles or [""] * max(map(len, rows), default=0)]
    table = Table(*columns, box=None, show_header=bool(titles), pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(visible(cell, lines=True) for cell in row))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        typer.echo(line.rstrip())


def print_accuracies(evaluation: Evaluation) -> None:
    """Print a table of test accuracies: a row for each architecture, a column for each kind of images."""
    kinds = list(dict.fromkeys(row.images for row in evaluation.rows))
    cells = {(row.network, row.images): str(row) for row in evaluation.rows}
    networks = dict.fromkeys(row.network for row in evaluation.rows)
    say(f"test accuracy in % of {evaluation.test_images} images, mean +- std, protocol {evaluation.protocol.name}")
    print_columns(
        [[network, *(cells.get((network, kind), "") for kind in kinds)] for network in networks], ["network", *kinds]
    )

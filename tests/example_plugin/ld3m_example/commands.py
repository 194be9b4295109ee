"""A sub-command: `ld3m example-count DATA`."""

from __future__ import annotations

from typing import Annotated

import typer


def count(data: Annotated[str, typer.Argument(help="Data set: NAME or NAME:ARGUMENT.")]) -> None:
    """Count the images of a data set by class."""
    from ld3m_plugin import load_task

    task = load_task(data)
    for name, number in zip(task.class_names, task.train.counts(), strict=True):
        typer.echo(f"{name}: {number}")

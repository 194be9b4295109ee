"""Options that several commands share, and warnings about plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.errors import UsageError
from ld3m_plugin.plugins import Registry, default_registry

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto for the best that is there.")
]
Networks = Annotated[
    str | None, typer.Option("--networks", help="Architectures to evaluate, separated by commas [the protocol's own].")
]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Named recipe of the evaluation [quick].")]
Repeats = Annotated[int | None, typer.Option("--repeats", min=1, help="Networks trained for each row of the table.")]
OutFile = Annotated[Path | None, typer.Option("--out", help="Where to write.")]


def warn_about_plugins(registry: Registry | None = None) -> None:
    """Say on standard error which plugins did not load; everything else goes on."""
    for record in (registry or default_registry()).records:
        if record.problems:
            typer.echo(f"warning: {record.owner} {record.status}", err=True)


def comma_list(text: str | None) -> list[str]:
    """`"a, b"` as `["a", "b"]`, nothing as `[]`.

    Raises:
        UsageError: there are commas and no names.
    """
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    if text is not None and not names:
        raise UsageError(f"{text!r} names nothing: write names separated by commas")
    return names

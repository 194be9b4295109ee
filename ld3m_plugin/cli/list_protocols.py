"""`ld3m protocols`: training recipes of evaluations."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ld3m_plugin.cli.flags import Json
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.plain_yaml import dump_yaml
from ld3m_plugin.registry import current_registry

app = typer.Typer(help="Training recipes of evaluations, each with its source.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@app.command("list")
def list_command(context: typer.Context, as_json: Json = False) -> None:
    """List protocols: networks, how many of each, epochs, and a summary.

    Examples: ld3m protocols, ld3m protocols show glad-2023
    """
    if context.invoked_subcommand is not None:
        return
    from ld3m_plugin.evaluation.protocols import get_protocol

    found = [get_protocol(name) for name in current_registry().names("protocol")]
    if as_json:
        typer.echo(json.dumps([protocol.model_dump(mode="json") for protocol in found], indent=2))
        return
    rows = [(p.name, str(p.epochs), str(p.repeats), ", ".join(p.networks), p.summary) for p in found]
    print_columns(rows, ("name", "epochs", "repeats", "networks", "summary"))


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name of a protocol, or its YAML file.")], as_json: Json = False
) -> None:
    """Print a protocol as YAML: a file of your own starts from it (`--protocol FILE.yaml`).

    Example: ld3m protocols show quick > mine.yaml
    """
    from ld3m_plugin.evaluation.protocols import get_protocol

    content = get_protocol(name).model_dump(mode="json")
    typer.echo(json.dumps(content, indent=2) if as_json else dump_yaml(content).rstrip())

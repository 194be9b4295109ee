"""`ld3m presets`: shipped configurations and where their numbers come from."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ld3m_plugin.cli.flags import Json
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.plain_yaml import dump_yaml
from ld3m_plugin.presets import load_preset, preset_names

app = typer.Typer(help="Shipped configurations, each with its source.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@app.command("list")
def list_command(context: typer.Context, as_json: Json = False) -> None:
    """List presets.

    Examples: ld3m presets, ld3m distill --preset demo
    """
    if context.invoked_subcommand is not None:
        return
    presets = [load_preset(name) for name in preset_names()]
    if as_json:
        typer.echo(json.dumps([asdict(preset) for preset in presets], indent=2))
    else:
        print_columns([(preset.name, preset.summary) for preset in presets])


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(help="Name of a preset.")], as_json: Json = False) -> None:
    """Print a preset as a configuration file.

    Example: ld3m presets show demo > run.yaml
    """
    preset = load_preset(name)
    if as_json:
        typer.echo(json.dumps(asdict(preset), indent=2))
        return
    compared = ", ".join(preset.compare.get("generators", ()))
    comments = [preset.summary, f"source: {preset.source}", *([f"ld3m compare: {compared}"] if compared else ())]
    lines = "".join(f"# {comment}\n" for comment in comments)
    typer.echo((lines + dump_yaml(preset.config)).rstrip())

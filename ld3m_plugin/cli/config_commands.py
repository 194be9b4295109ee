"""`ld3m config`: the schema of a configuration file, and a commented one to start from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli.common import check_name, say
from ld3m_plugin.errors import UsageError

app = typer.Typer(help="Configuration files: their schema, and a commented one to start from.", rich_markup_mode=None)
_WIDTH = 100


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of configuration files, for editors.

    Example: ld3m config schema > ld3m-schema.json; the first line of a file then says
    # yaml-language-server: $schema=ld3m-schema.json
    """
    from ld3m_plugin.config import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


@app.command("init")
def init_command(
    out: Annotated[Path | None, typer.Argument(help="File to write; default: standard output.")] = None,
    preset: Annotated[
        list[str] | None, typer.Option("--preset", help="Shipped settings to start from; repeatable.")
    ] = None,
) -> None:
    """Write a configuration file with every setting, its default and what it means.

    Example: ld3m config init run.yaml; ld3m distill --config run.yaml
    """
    from ld3m_plugin.config import RunConfig, resolve
    from ld3m_plugin.storage import write_text

    check_name(out)
    settings = resolve(presets=preset or ()).model_dump(mode="json")
    text = "".join(f"{line}\n" for line in commented(RunConfig, settings))
    if out is None:
        typer.echo(text.rstrip())
        return
    if out.exists():
        raise UsageError(f"{out} is there already: choose another file")
    write_text(out, text)
    say(f"settings: {out} (ld3m distill --config {out})")


def commented(model: Any, settings: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Lines of YAML: the settings of a model, each below a comment that describes it."""
    import textwrap

    from pydantic import BaseModel

    from ld3m_plugin.plain_yaml import dump_yaml

    for name, field in model.model_fields.items():
        part = (
            field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) else None
        )
        about = field.description or (part.__doc__ if part is not None else "") or ""
        for line in textwrap.wrap(about, _WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if part is not None:
            yield f"{indent}{name}:"
            yield from commented(part, settings[name], indent + "  ")
        else:
            for line in dump_yaml({name: settings.get(name, field.default)}).rstrip().splitlines():
                yield indent + line

"""`ld3m plugins`: what is installed, from whom, and which options a backend takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ld3m_plugin.cli.common import Json
from ld3m_plugin.errors import UnknownBackendError, nearest
from ld3m_plugin.registry import KINDS, Backend, Registry, current_registry

app = typer.Typer(help="Installed backends and the plugins they come from.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def plugins_command(context: typer.Context, as_json: Json = False) -> None:
    """List backends: name, kind, distribution, version and status. Plugins that failed say why."""
    if context.invoked_subcommand is None:
        _print_rows(_rows(current_registry()), as_json)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """The same as `ld3m plugins`."""
    _print_rows(_rows(current_registry()), as_json)


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Registered name.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help=f"One of {', '.join(KINDS)}, where several have it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Options of a backend with types, ranges, units and defaults."""
    registry = current_registry()
    found = [backend for backend in registry.backends(kind) if backend.name == name]
    if not found:
        known = [backend.name for backend in registry.backends(kind)]
        raise UnknownBackendError(f"unknown backend {name!r}: {nearest(name, known)}")
    described = [_describe(registry, backend) for backend in found]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    else:
        typer.echo("\n\n".join(_as_text(entry) for entry in described))


def _rows(registry: Registry) -> list[dict[str, str]]:
    status = {record.owner: record.status for record in registry.records}
    rows = [
        {
            "name": backend.name,
            "kind": backend.kind,
            "distribution": backend.owner.distribution,
            "version": backend.owner.version,
            "status": "ok",
            "summary": backend.summary,
        }
        for backend in registry.backends()
    ]
    failed = [
        {
            "name": owner.plugin,
            "kind": "plugin",
            "distribution": owner.distribution,
            "version": owner.version,
            "status": text,
            "summary": "",
        }
        for owner, text in status.items()
        if text != "ok"
    ]
    return sorted(rows, key=lambda row: KINDS.index(row["kind"])) + failed


def _print_rows(rows: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("name", "kind", "distribution", "version", "status", "summary")
    # The reason of a failure may be long: it does not widen the column.
    cells = [{**row, "status": row["status"].replace("failed: ", "failed  ", 1)} for row in rows]
    widths = [max(len(column), *(min(len(row[column]), 40) for row in cells)) for column in columns[:4]] + [6, 0]
    for row in (dict(zip(columns, columns, strict=True)), *cells):
        typer.echo("  ".join(row[column].ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip())


def _describe(registry: Registry, backend: Backend) -> dict[str, Any]:
    factory = registry.resolve(backend.kind, backend.name)
    text = inspect.getdoc(factory) or backend.summary
    return {
        "name": backend.name,
        "kind": backend.kind,
        "owner": str(backend.owner),
        "summary": text.split("\n\n")[0].replace("\n", " "),
        **_options(backend.kind, factory),
    }


def _options(kind: str, factory: Any) -> dict[str, list[dict[str, str]]]:
    """Lists of options by what they are called in JSON; only a prior has two."""
    if kind == "dataset":
        from ld3m_plugin.task import DataOptions

        return {"options": _options_of_model(DataOptions)}
    if kind == "prior":
        return {
            "options": _options_of_model(factory.TrainingOptions),
            "conversion_options": _options_of_model(factory.ConversionOptions),
        }
    if hasattr(factory, "Options"):
        return {"options": _options_of_model(factory.Options)}
    return {"options": _options_of_signature(factory)}


def _options_of_model(model: Any) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "type": _type_name(field.annotation),
            "default": "required" if field.is_required() else str(field.get_default(call_default_factory=True)),
            "range": ", ".join(_range(field.metadata)),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def _options_of_signature(factory: Any) -> list[dict[str, str]]:
    return [
        {
            "name": parameter.name,
            "type": _type_name(parameter.annotation),
            "default": "from the task" if parameter.default is parameter.empty else str(parameter.default),
            "range": "",
            "description": "",
        }
        for parameter in _signature(factory).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


def _signature(factory: Any) -> inspect.Signature:
    try:
        return inspect.signature(factory, eval_str=True)  # what an alias such as `Norm` stands for
    except NameError:  # an annotation that only type checkers can resolve
        return inspect.signature(factory)


def _type_name(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.replace("typing.", "").replace("pathlib._local.", "").replace("pathlib.", "")


def _range(constraints: list[Any]) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [f"{signs[name]} {getattr(c, name)}" for c in constraints for name in signs if hasattr(c, name)]


def _as_text(entry: dict[str, Any]) -> str:
    lines = [f"{entry['name']} ({entry['kind']}, {entry['owner']})", f"  {entry['summary']}", ""]
    if "conversion_options" not in entry:
        return "\n".join([*lines, *_option_lines(entry["options"])])
    training = ["  ld3m prior train:", *_option_lines(entry["options"])]
    conversion = ["  ld3m prior convert:", *_option_lines(entry["conversion_options"])]
    return "\n".join([*lines, *training, "", *conversion])


def _option_lines(options: list[dict[str, str]]) -> Iterator[str]:
    for option in options:
        limits = f", {option['range']}" if option["range"] else ""
        yield f"  {option['name']}: {option['type']}{limits} = {option['default']}"
        if option["description"]:
            yield f"      {option['description']}"
    if not options:
        yield "  takes no options"

"""`ld3m plugins`: installed backends, the plugins they come from, and the options they take."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli.common import check_name, say
from ld3m_plugin.cli.flags import Json
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.errors import UnknownBackendError, nearest, visible
from ld3m_plugin.registry import KINDS, Backend, Registry, current_registry

_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
app = typer.Typer(help="Installed backends and the plugins they come from.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@app.command("list")
def list_command(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Import and build everything; exit 1 where something is broken.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List backends: name, kind, distribution, version, status, and a summary or why a plugin failed.

    Example: ld3m plugins
    """
    if context.invoked_subcommand is not None:
        return
    rows = _rows(current_registry(), _faults() if check else {})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_columns([_shown(row) for row in rows], list(rows[0]))
    broken = sum(row["status"] != "ok" for row in rows)
    if check and not as_json:
        typer.echo(f"\n{len(rows)} checked, {broken or 'none'} broken")
    if check and broken:
        raise typer.Exit(1)


@app.command("new")
def new_command(
    name: Annotated[
        str, typer.Argument(help="Name of the plugin, such as `spectral`: the distribution is ld3m-spectral.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write, new or empty [ld3m-NAME].")] = None,
) -> None:
    """Write a working plugin: a distribution with a backend of every kind, a command, and tests.

    Example: ld3m plugins new spectral
    """
    from ld3m_plugin.plugin_template.new_plugin import write_plugin

    check_name(out)
    folder = write_plugin(name, out)
    say(f"written: {folder} (start with its README.md)")
    say(f"install: pip install --editable {folder}")
    say(f"check:   ld3m plugins --check && pytest {folder}")
    say(
        f"run:     ld3m distill -g {name}-upsample -o {name}-moments --data {name}-stripes --steps 20 --networks {name}-mlp"
    )


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Registered name.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help=f"One of {', '.join(KINDS)}, where several have the name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the options of a backend: types, ranges, units and defaults.

    Example: ld3m plugins show ld3m
    """
    registry = current_registry()
    found = [backend for backend in registry.backends(kind) if backend.name == name]
    if not found:
        known = [backend.name for backend in registry.backends(kind)]
        raise UnknownBackendError(f"unknown backend {name!r}: {nearest(name, known)}")
    described = [_describe(registry, backend) for backend in found]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    else:
        typer.echo(visible("\n\n".join(_as_text(entry) for entry in described), lines=True))


def _faults() -> dict[tuple[str, str], str]:
    from ld3m_plugin.cli.check_plugins import faults

    return faults(current_registry())


def _shown(row: dict[str, str]) -> list[str]:
    """The cells of a row: a status of one word, and why beside the summary."""
    status, _, reason = row["status"].partition(": ")
    return list({**row, "status": status, "summary": reason or row["summary"]}.values())


def _rows(registry: Registry, faults: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    backends = sorted(registry.backends(), key=lambda backend: KINDS.index(backend.kind))
    status = {key: f"failed: {fault}" for key, fault in faults.items()}
    found = [(b.name, b.kind, b.owner, status.get((b.kind, b.name), "ok"), b.summary) for b in backends]
    failed = [(r.owner.plugin, "plugin", r.owner, r.status, "") for r in registry.records if r.problems]
    columns = ("name", "kind", "distribution", "version", "status", "summary")
    return [
        dict(zip(columns, (name, kind, owner.distribution, owner.version, status, summary), strict=True))
        for name, kind, owner, status, summary in [*found, *failed]
    ]


def _describe(registry: Registry, backend: Backend) -> dict[str, Any]:
    described = {"name": backend.name, "kind": backend.kind, "owner": str(backend.owner), "summary": backend.summary}
    if backend.kind == "command":
        return {**described, "options": []}
    factory = registry.resolve(backend.kind, backend.name)
    # Not of a base class, which `inspect.getdoc` takes where a class has none of its own.
    own = getattr(factory, "__doc__", None) if callable(factory) else None
    text = (inspect.cleandoc(own) if own else "") or backend.summary
    return {**described, "summary": text.split("\n\n")[0].replace("\n", " "), **_options(backend.kind, factory)}


def _options(kind: str, factory: Any) -> dict[str, list[dict[str, str]]]:
    """Describe the options, in lists by their name in JSON; only a prior has two lists."""
    if kind == "prior":
        return {
            "options": _options_of_model(factory.TrainingOptions),
            "conversion_options": _options_of_model(factory.ConversionOptions),
        }
    if kind == "protocol":  # an object with all its settings
        options = _options_of_model(type(factory))
        return {"options": [{**option, "default": str(getattr(factory, option["name"]))} for option in options]}
    from ld3m_plugin.data.data_settings import full_options
    from ld3m_plugin.options import options_model

    model: Any = options_model(factory)
    model = full_options(model) if kind == "dataset" else model
    return {"options": _options_of_model(model) if model else _options_of_signature(factory)}


def _options_of_model(model: Any) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "type": _type_name(field.annotation),
            "default": "required" if field.is_required() else str(field.get_default(call_default_factory=True)),
            "range": ", ".join(
                f"{sign} {getattr(limit, key)}"
                for limit in field.metadata
                for key, sign in _SIGNS
                if hasattr(limit, key)
            ),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def _options_of_signature(factory: Any) -> list[dict[str, str]]:
    try:
        signature = inspect.signature(factory, eval_str=True)  # resolves aliases such as `Norm`
    except NameError:  # an annotation that only type checkers can resolve
        signature = inspect.signature(factory)
    return [
        {
            "name": parameter.name,
            "type": _type_name(parameter.annotation),
            "default": "from the task" if parameter.default is parameter.empty else str(parameter.default),
            "range": "",
            "description": "",
        }
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.replace("typing.", "").replace("pathlib._local.", "").replace("pathlib.", "")


def _as_text(entry: dict[str, Any]) -> str:
    lines = [f"{entry['name']} ({entry['kind']}, {entry['owner']})", f"  {entry['summary']}", ""]
    if entry["kind"] == "command":
        return "\n".join([*lines, f"  `ld3m {entry['name']} --help` lists its options"])
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

"""The `ld3m` command. Sub-commands come from the hook `register_commands`, the built-in ones too, and load when they run."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from ld3m_plugin import __version__
from ld3m_plugin.errors import ExitCode, HostError
from ld3m_plugin.hookspecs import Register, hookimpl
from ld3m_plugin.registry import current_registry


@hookimpl
def register_commands(register: Register) -> None:
    """Register the host's commands by import path: help texts and other commands load none of them."""
    where = "ld3m_plugin.cli"
    register("distill", f"{where}.distill:distill_command", summary="Distil a data set into a few synthetic images.")
    register(
        "evaluate", f"{where}.evaluate:evaluate_command", summary="Train networks on a distilled set and test them."
    )
    register("compare", f"{where}.compare:compare_command", summary="Distil with several generators and compare them.")
    register("plugins", f"{where}.plugins:app", summary="Installed backends and the plugins they come from.")
    register("presets", f"{where}.presets:app", summary="Shipped configurations, each with its source.")
    register("prior", f"{where}.prior:app", summary="Pre-trained models that generators render with.")


class _PluginCommand(typer.core.TyperCommand):
    """A sub-command that shows its summary at once and is imported when it runs."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None  # noqa: S101 (for the type checker: `_Root` gives one)
        loaded = current_registry().resolve("command", self.name)
        if not isinstance(loaded, typer.Typer):
            loaded, function = typer.Typer(rich_markup_mode=None), loaded
            loaded.command(self.name)(function)
        return typer.main.get_command(loaded).make_context(info_name, args, parent, **extra)


class _Root(typer.core.TyperGroup):
    """The group of all registered commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return current_registry().names("command")

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        summaries = {backend.name: backend.summary for backend in current_registry().backends("command")}
        if cmd_name not in summaries:
            return None
        return _PluginCommand(cmd_name, help=summaries[cmd_name], rich_markup_mode=None)


app = typer.Typer(
    name="ld3m",
    cls=_Root,
    help="Dataset distillation: learn a few synthetic images on which a network trains almost as well as on all data.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ld3m {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback acts on it)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        # Said here and not by `no_args_is_help`, whose exit code differs between versions.
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(int(ExitCode.USAGE))


def main() -> None:
    """Entry point: a `HostError` is one line on standard error and its exit code; anything else keeps its traceback."""
    try:
        app(prog_name="ld3m")  # also when run as `python -m ld3m_plugin`
    except HostError as error:
        _leave(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader (`ld3m plugins | head`) has what it wanted.
        sys.stderr.close()
    except OSError as error:
        if error.filename is None:
            raise
        _leave(f"cannot use {error.filename}: {error.strerror}", ExitCode.FAILED)


def _leave(message: str, code: ExitCode) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(int(code))

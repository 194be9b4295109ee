"""The `ld3m` command. Sub-commands come from the hook `register_commands`, the built-in ones too, and load when they run."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from ld3m_plugin import __version__
from ld3m_plugin.cli import verbosity
from ld3m_plugin.cli.command_loading import DEBUG, load_command
from ld3m_plugin.cli.interrupts import leave_at_once
from ld3m_plugin.cli.streams import patient_streams
from ld3m_plugin.errors import (
    LESS_MEMORY,
    ExitCode,
    HostError,
    PluginFailedError,
    frames_of_plugin,
    of_the_machine,
    visible,
)
from ld3m_plugin.hookspecs import Register, hookimpl
from ld3m_plugin.registry import blaming, current_registry


@hookimpl
def register_commands(register: Register) -> None:
    """Register the host's commands by import path: help texts and other commands load none of them."""
    where = "ld3m_plugin.cli"
    register("distill", f"{where}.distill:distill_command", summary="Distil a data set into a few synthetic images.")
    register(
        "evaluate", f"{where}.evaluate:evaluate_command", summary="Train networks on a distilled set and test them."
    )
    register("train-on", f"{where}.train_on:train_on_command", summary="Train one network on a distilled set, save it.")
    register("export", f"{where}.export:export_command", summary="Write a distilled set in the format of another tool.")
    register(
        "import", f"{where}.import_set:import_command", summary="Make a distilled set of tensors of another program."
    )
    register("compare", f"{where}.compare:app", summary="Distil with several generators and compare them.")
    register(
        "runs", f"{where}.list_runs:runs_command", summary="Runs and comparisons: how far they are, and accuracies."
    )
    register("show", f"{where}.show:show_command", summary="Pictures and main numbers of a run, in the terminal.")
    register("report", f"{where}.report:report_command", summary="One HTML file of a run or a comparison.")
    register(
        "bench", f"{where}.bench:bench_command", summary="Speed and memory, alone or in turns with another version."
    )
    register("plugins", f"{where}.plugins:app", summary="Installed backends and the plugins they come from.")
    register("presets", f"{where}.presets:app", summary="Shipped configurations, each with its source.")
    register("protocols", f"{where}.list_protocols:app", summary="Training recipes of evaluations.")
    register(
        "config", f"{where}.config_commands:app", summary="Configuration files: their schema, and one to start from."
    )
    register("prior", f"{where}.prior:app", summary="Pre-trained models that generators render with.")


class _Root(typer.core.TyperGroup):
    """The group of all registered commands: listed by their summaries, imported when one is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return current_registry().names("command")

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        summaries = {backend.name: backend.summary for backend in current_registry().backends("command")}
        return typer.core.TyperCommand(cmd_name, help=summaries[cmd_name], rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        if ctx.resilient_parsing and name not in self.list_commands(ctx):
            return None, None, rest  # shell completion of a name that is not there
        return name, load_command(name), rest

    def invoke(self, ctx: Any) -> None:
        try:
            super().invoke(ctx)  # what a command returns is no exit code
        except (HostError, typer.Exit, typer.Abort, _MistakeInCommand):
            raise
        except Exception:  # of a plugin's command; a built-in one's is our mistake and keeps its traceback
            name = ctx.invoked_subcommand
            if name is None or current_registry().find("command", name).owner.is_host:
                raise
            with blaming("command", name, "its run"):
                raise


app = typer.Typer(
    name="ld3m",
    cls=_Root,
    help="Dataset distillation: learn a few synthetic images that networks train on in place of all data.",
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
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors alone.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print what libraries log, and where an error was raised.")
    ] = False,
) -> None:
    verbosity.start(quiet, verbose)
    context.call_on_close(verbosity.end)
    if context.invoked_subcommand is None:
        # Printed here and not by `no_args_is_help`, whose exit code differs between versions.
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(int(ExitCode.USAGE))


# Of click, which newer versions of typer carry inside: the base of all mistakes that they find in a command line.
_MistakeInCommand: Any = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the program and leave with its exit code.

    A `HostError`, an end of the disk and an end of the memory become one line on standard error; other errors keep their
    traceback. Readers of the output may go away at any time.
    """
    leave_at_once()
    with patient_streams():
        code = _run()
    sys.exit(code)


def _traceback(error: Exception) -> str:
    """The frames of a plugin that raised, else all."""
    of_plugin = frames_of_plugin(error) if isinstance(error, PluginFailedError) else ""
    return of_plugin or "".join(traceback.format_exception(error)).rstrip()


def _run() -> int:
    verbosity.forget()
    try:
        code = app(prog_name="ld3m", standalone_mode=False)  # also when run as `python -m ld3m_plugin`
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk shows here, not when Python ends
        return code if isinstance(code, int) else int(ExitCode.DONE)
    except _MistakeInCommand as mistake:
        typer.echo(f"error: {_mistake(mistake)}", err=True)
        return int(mistake.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        told = of_the_machine(error, LESS_MEMORY) or error
        if not isinstance(told, HostError):
            raise
        wanted = verbosity.said.verbose or os.environ.get(DEBUG)
        verbosity.tell_error(told, _traceback(told) if wanted else "")
        return int(told.exit_code)


def _mistake(mistake: Any) -> str:
    """A mistake in a command line in the style of all errors: what is wrong, then what to type."""
    told = visible(mistake.format_message()).rstrip(".")
    command = mistake.ctx.command_path if mistake.ctx is not None else "ld3m"
    return f"{told[:1].lower()}{told[1:]}; `{command} --help` lists what it takes"

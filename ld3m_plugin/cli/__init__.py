"""The `ld3m` command: one module a subcommand, assembled here. Nothing here imports torch; the commands do when they run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ld3m_plugin import __version__
from ld3m_plugin.cli import compare, distill, evaluate, experts, plugins, presets, prior
from ld3m_plugin.errors import ExitCode, HostError

app = typer.Typer(
    name="ld3m",
    help="Dataset distillation: learn a few synthetic images on which a network trains almost as well as on all data.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("distill")(distill.distill_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("compare")(compare.compare_command)
app.add_typer(plugins.app, name="plugins")
app.add_typer(presets.app, name="presets")
app.add_typer(prior.app, name="prior")
app.add_typer(experts.app, name="experts")


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

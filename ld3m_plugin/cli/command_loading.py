"""Sub-commands as typer makes them of what plugins registered, with the options that every command takes."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
import typer.main

from ld3m_plugin.errors import PluginLoadError
from ld3m_plugin.registry import current_registry

#: Variable that, set to anything, lets errors come with their traceback, as `--debug` asks for.
DEBUG = "LD3M_DEBUG"


def load_command(name: str) -> Any:
    """Import the command of that name.

    Raises:
        PluginLoadError: it does not import, or cannot be made a command.
    """
    registry = current_registry()
    loaded = registry.resolve("command", name)
    try:
        if not isinstance(loaded, typer.Typer):
            loaded, function = typer.Typer(rich_markup_mode=None), loaded
            loaded.command(name)(function)
        command = typer.main.get_command(loaded)
    except Exception as error:  # typer refuses what cannot be a command with errors of many types
        owner = registry.find("command", name).owner
        raise PluginLoadError(f"command {name!r} ({owner}) cannot be made a command: {error}") from error
    of_the_program = {"install_completion", "show_completion"}  # typer adds them to every app that is loaded by itself
    command.params = [parameter for parameter in command.params if parameter.name not in of_the_program]
    _add_debug(command)
    return command


def _add_debug(command: Any) -> None:
    """Let a command and its sub-commands take `--debug`."""
    flags = typer.Typer(add_completion=False)
    flags.command()(_common_flags)
    command.params += typer.main.get_command(flags).params
    for inner in getattr(command, "commands", {}).values():
        _add_debug(inner)


def _debug(wanted: bool) -> None:
    """Note the wish where the processes of rows find it too."""
    if wanted:
        os.environ[DEBUG] = "1"


def _common_flags(
    debug: Annotated[
        bool, typer.Option("--debug", expose_value=False, callback=_debug, help="Show the traceback of an error too.")
    ] = False,
) -> None:
    """Carry the options that every command takes."""

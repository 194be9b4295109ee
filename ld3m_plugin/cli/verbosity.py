"""How much the program says, and in which form it tells errors: `ld3m -q`, `ld3m -v`, `--json`."""

from __future__ import annotations

import json
import logging

import typer

from ld3m_plugin.errors import HostError, PluginFailedError, visible


class _Said:
    """Of this process: quiet says warnings and results alone; verbose logs what libraries say; errors may be JSON."""

    quiet = False
    verbose = False
    as_json = False


said = _Said()


class _Lines(logging.Handler):
    """Prints what this library logs: a warning as the program's own, anything else, with `-v`, with its logger."""

    def emit(self, record: logging.LogRecord) -> None:
        told = "warning" if record.levelno >= logging.WARNING else record.name
        typer.echo(visible(f"{told}: {record.getMessage()}"), err=True)


_library, _lines = logging.getLogger("ld3m_plugin"), _Lines()


def forget() -> None:
    """Forget what the command before in this process was told: this one may fail before it begins."""
    said.quiet = said.verbose = said.as_json = False


def start(quiet: bool, verbose: bool) -> None:
    """Begin a command: nothing of the one before in this process counts.

    What the library logs is printed here alone: reporters of commands print the rest themselves and log nothing.
    """
    said.quiet, said.verbose, said.as_json = quiet, verbose, False
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _library.setLevel(logging.INFO if verbose else logging.WARNING)
    _library.propagate = False
    _library.addHandler(_lines)


def end() -> None:
    """End a command: what the library logs goes where the program that called the command wants it."""
    _library.removeHandler(_lines)
    _library.propagate = True
    _library.setLevel(logging.NOTSET)


def wants_json(value: bool) -> bool:
    """Callback of `--json`: errors are JSON as well."""
    said.as_json = said.as_json or value
    return value


def is_heard(text: str) -> bool:
    """Whether a line of progress is printed."""
    return not said.quiet or text.startswith(("warning", "error"))


def tell_error(error: HostError, frames: str) -> None:
    """Print an error on standard error: a line, or an object where `--json` was given.

    Args:
        frames: the traceback, printed before it; "" if nobody asked for it.
    """
    if frames:
        typer.echo(visible(frames, lines=True), err=True)
    if said.as_json:
        content = {"type": type(error).__name__, "message": str(error), "exit_code": int(error.exit_code)}
        typer.echo(json.dumps({"error": content}), err=True)
        return
    hidden = isinstance(error, PluginFailedError) and error.__cause__ is not None and not frames
    typer.echo(f"error: {visible(error)}{'; --debug shows the traceback' if hidden else ''}", err=True)

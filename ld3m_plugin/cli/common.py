"""Settings, data, stopping and warnings that several commands share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ld3m_plugin.allocator import keep_freed_memory
from ld3m_plugin.cli.flags import PATHS
from ld3m_plugin.cli.interrupts import work_begins
from ld3m_plugin.errors import LESS_MEMORY, UsageError, of_the_machine, visible
from ld3m_plugin.registry import current_registry

if TYPE_CHECKING:
    from ld3m_plugin.task import Task


def prepare_process() -> None:
    """Take Ctrl-C as an exception, let freed memory be used again, and warn on standard error about plugins that did not load."""
    work_begins()
    keep_freed_memory()
    for record in current_registry().records:
        if record.problems:
            say(f"warning: {record.owner} {record.status}", err=True)


def say(text: str, *, err: bool = False) -> None:
    """Print one line in which control characters are visible."""
    typer.echo(visible(text), err=err)


def compose(
    arguments: Mapping[str, Any], parts: Iterable[str] = ("generator", "objective", "data")
) -> list[tuple[str, Any]]:
    """Collect paths and values for `config.resolve` from the arguments of a command; later ones win: --set, flags, options.

    Args:
        arguments: all arguments, by the names of `flags.PATHS`; `settings`, and options of a part as `data_options`.
        parts: the parts of a configuration whose options the command takes.

    Raises:
        UsageError: a text that is no assignment, a list without names, or an `out` that no file can have as its name.
    """
    check_name(arguments.get("out"))
    given = {**arguments, "networks": comma_list(arguments["networks"]) or None}
    flags = [(path, given[name]) for name, path in PATHS.items() if given.get(name) is not None]
    options = [(f"{part}.options.{key}", value) for part in parts for key, value in pairs(given[f"{part}_options"])]
    return [*pairs(given["settings"]), *flags, *options]


def check_name(out: Path | None) -> None:
    """Check that files can have the name `--out`: libraries that write them take UTF-8 alone.

    Raises:
        UsageError: bytes that are no UTF-8, or a null character.
    """
    try:
        if out is not None and b"\0" in str(out).encode():
            raise UsageError(f"--out {str(out)!r} has a null character: choose another name")
    except UnicodeEncodeError as error:
        raise UsageError(f"--out {str(out)!r} is not UTF-8: choose another name") from error


@contextmanager
def naming_lines(files: Iterable[Path], given: Iterable[str]) -> Iterator[None]:
    """Put file and line before an error about a setting that one of the configuration files has, the last one first.

    Args:
        given: paths of the settings that the command line gives, whose values are not the files'.
    """
    try:
        yield
    except UsageError as error:
        path = error.location
        typed = {".".join(path[: length + 1]) for length in range(len(path))} & set(given)
        where = None if typed else next(filter(None, (_line(file, path) for file in reversed(list(files)))), None)
        if where is None:
            raise
        raise type(error)(f"{where}: {error}") from error


def _line(file: Path, path: tuple[str, ...]) -> str | None:
    from ld3m_plugin.plain_yaml import line_of

    number = line_of(file, path) if path else None
    return None if number is None else f"{file}, line {number}"


def pairs(texts: list[str] | None) -> list[tuple[str, Any]]:
    """Read `KEY=VALUE` texts.

    Raises:
        UsageError: a text that is no assignment.
    """
    from ld3m_plugin.config import parse_assignment

    return [parse_assignment(text) for text in texts or ()]


def assignments(texts: list[str] | None) -> dict[str, Any]:
    """Read `KEY=VALUE` texts as `pairs`; later ones win."""
    return dict(pairs(texts))


def comma_list(text: str | None) -> list[str]:
    """Split `"a, b"` into `["a", "b"]`; None gives `[]`.

    Raises:
        UsageError: there are commas and no names.
    """
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    if text is not None and not names:
        raise UsageError(f"{text!r} has no names: write names separated by commas")
    return names


def read_data(name: str | None, options: Mapping[str, Any], device: str | None) -> Task:
    """Load the data set `name`, or the default one, on `device` or the best available.

    Raises:
        HostError: an unknown option of the data set, rejected before anything is read; or as `load_task`.
    """
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.data.data_settings import data_options
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.distillation.loop import choose_device

    name = name or RunConfig().data.name
    data_options(name, options)
    return load_task(name, device=choose_device(device or "auto"), **options)


@contextmanager
def orderly_end(
    stopped: Callable[[], None], less_memory: str = LESS_MEMORY, kept: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into exit code 130, and the end of memory or disk into a one-line error.

    Args:
        stopped: tells the user how to go on.
        less_memory: advice against the end of memory.
        kept: says what is kept at the end of the disk, and how to go on.
    """
    from ld3m_plugin.storage import signals_held

    # Job schedulers and containers send the first, a terminal that closes the second; Windows has no SIGHUP.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as after `nohup`
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except Exception as error:
        told = of_the_machine(error, less_memory, kept())
        if told is None:
            raise
        raise told from error
    except KeyboardInterrupt:
        with signals_held(), suppress(OSError):  # the terminal may be gone
            stopped()
        raise typer.Exit(130) from None

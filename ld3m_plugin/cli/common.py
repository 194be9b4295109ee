"""Options, settings, stopping and warnings that several commands share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.registry import current_registry

if TYPE_CHECKING:
    from ld3m_plugin.task import Task

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto for the best available [auto].")
]
Networks = Annotated[
    str | None, typer.Option("--networks", help="Architectures to evaluate, separated by commas [the protocol's own].")
]
ProtocolName = Annotated[
    str | None, typer.Option("--protocol", help="Training recipe of the evaluation, by name [a quick one].")
]
Repeats = Annotated[int | None, typer.Option("--repeats", min=1, help="Networks trained for each row of the table.")]
OutFile = Annotated[Path | None, typer.Option("--out", help="File to write.")]
ObjectiveName = Annotated[
    str | None, typer.Option("--objective", "-o", help="Objective by name [see `ld3m presets show default`].")
]
ObjectiveOptions = Annotated[
    list[str] | None, typer.Option("-O", metavar="KEY=VALUE", help="Option of the objective; repeatable.")
]
DataName = Annotated[
    str | None,
    typer.Option("--data", help="Data set: NAME or NAME:ARGUMENT [see `ld3m presets show default`]."),
]
DataSettings = Annotated[
    list[str] | None, typer.Option("-D", metavar="KEY=VALUE", help="Option of the data set; repeatable.")
]
ImagesPerClass = Annotated[int | None, typer.Option("--ipc", min=1, help="Synthetic images per class [1].")]
Steps = Annotated[int | None, typer.Option("--steps", min=0, help="Updates of the latents [200].")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random streams [0].")]
ConfigFiles = Annotated[list[Path] | None, typer.Option("--config", help="YAML file with settings; repeatable.")]
PresetNames = Annotated[
    list[str] | None, typer.Option("--preset", help="Shipped settings (`ld3m presets`); repeatable.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="One setting by its path; repeatable.")
]

#: How to make a distillation use less memory.
LESS_MEMORY = (
    "lower --set render_batch=N or the objective's own batch options (`ld3m plugins show NAME`), "
    "or try --set autocast=bf16"
)


def warn_about_plugins() -> None:
    """Warn on standard error about plugins that did not load."""
    for record in current_registry().records:
        if record.problems:
            typer.echo(f"warning: {record.owner} {record.status}", err=True)


def compose(
    settings: list[str] | None, flags: Mapping[str, Any], options: Mapping[str, list[str] | None]
) -> list[tuple[str, Any]]:
    """Collect paths and values for `config.resolve`; later ones win: --set, flags that were given, options by part.

    Raises:
        UsageError: a text that is no assignment.
    """
    given = [(path, value) for path, value in flags.items() if value is not None]
    parts = [pair for part, texts in options.items() for pair in _assignments(texts, f"{part}.options.")]
    return [*_assignments(settings, ""), *given, *parts]


def _assignments(texts: list[str] | None, prefix: str) -> Iterator[tuple[str, Any]]:
    from ld3m_plugin.config import parse_assignment

    for text in texts or ():
        path, value = parse_assignment(text)
        yield prefix + path, value


def assignments(texts: list[str] | None) -> dict[str, Any]:
    """Read `KEY=VALUE` texts; later ones win.

    Raises:
        UsageError: a text that is no assignment.
    """
    return dict(_assignments(texts, ""))


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
    """Load the data set `name`, or the default one, on `device` or the best available."""
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.distillation.loop import choose_device

    return load_task(name or RunConfig().data.name, device=choose_device(device or "auto"), **options)


@contextmanager
def orderly_end(stopped: Callable[[], None], less_memory: str = LESS_MEMORY) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into exit code 130, and running out of memory into a one-line error.

    Args:
        stopped: tells the user how to go on.
        less_memory: advice for the error.
    """
    import torch

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # job schedulers and containers send it
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise HostError(f"the device ran out of memory ({str(error).splitlines()[0]}): {less_memory}") from error
    except KeyboardInterrupt:
        stopped()
        raise typer.Exit(130) from None

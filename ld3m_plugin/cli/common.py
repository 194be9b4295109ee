"""Options that several commands share, how they make settings, how a run ends early, and warnings about plugins."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.registry import current_registry

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto for the best that is there.")
]
Networks = Annotated[
    str | None, typer.Option("--networks", help="Architectures to evaluate, separated by commas [the protocol's own].")
]
ProtocolName = Annotated[str | None, typer.Option("--protocol", help="Named recipe of the evaluation [quick].")]
Repeats = Annotated[int | None, typer.Option("--repeats", min=1, help="Networks trained for each row of the table.")]
OutFile = Annotated[Path | None, typer.Option("--out", help="Where to write.")]
ObjectiveName = Annotated[str | None, typer.Option("--objective", "-o", help="Objective by name [dm].")]
ObjectiveOptions = Annotated[
    list[str] | None, typer.Option("-O", metavar="KEY=VALUE", help="Option of the objective; repeatable.")
]
DataName = Annotated[str | None, typer.Option("--data", help="Data set: NAME or NAME:ARGUMENT [fashion-mnist].")]
DataSettings = Annotated[
    list[str] | None, typer.Option("-D", metavar="KEY=VALUE", help="Option of the data set; repeatable.")
]
ImagesPerClass = Annotated[int | None, typer.Option("--ipc", min=1, help="Synthetic images per class [1].")]
Steps = Annotated[int | None, typer.Option("--steps", min=0, help="Updates of the latents [200].")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random streams [0].")]
ConfigFiles = Annotated[list[Path] | None, typer.Option("--config", help="YAML file with settings; repeatable.")]
PresetNames = Annotated[list[str] | None, typer.Option("--preset", help="Shipped settings (`ld3m presets`).")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="One setting by its path; repeatable.")
]

#: What makes a distillation smaller.
LESS_MEMORY = (
    "lower --set render_batch=N or what the objective holds at once (`ld3m plugins show NAME`), "
    "or try --set autocast=bf16"
)


def warn_about_plugins() -> None:
    """Say on standard error which plugins did not load; everything else goes on."""
    for record in current_registry().records:
        if record.problems:
            typer.echo(f"warning: {record.owner} {record.status}", err=True)


def compose(
    settings: list[str] | None, flags: Mapping[str, Any], options: Mapping[str, list[str] | None]
) -> list[tuple[str, Any]]:
    """Paths and values for `config.resolve`, later ones win: --set, flags that were given, options by part.

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
    """The values of `KEY=VALUE` texts by their keys; later ones win.

    Raises:
        UsageError: a text that is no assignment.
    """
    return dict(_assignments(texts, ""))


@contextmanager
def orderly_end(stopped: Callable[[], None], less_memory: str = LESS_MEMORY) -> Iterator[None]:
    """What is done inside ends with code 130 on Ctrl-C or SIGTERM, and with one line where the device's memory ends.

    Args:
        stopped: says how to go on.
        less_memory: says what to change where the memory ended.
    """
    import torch

    # What a job scheduler or a container sends is treated as Ctrl-C: the state is saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise HostError(f"the device ran out of memory ({str(error).splitlines()[0]}): {less_memory}") from error
    except KeyboardInterrupt:
        stopped()
        raise typer.Exit(130) from None


def comma_list(text: str | None) -> list[str]:
    """`"a, b"` as `["a", "b"]`, nothing as `[]`.

    Raises:
        UsageError: there are commas and no names.
    """
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    if text is not None and not names:
        raise UsageError(f"{text!r} names nothing: write names separated by commas")
    return names

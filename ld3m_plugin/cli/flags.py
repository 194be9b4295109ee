"""Command-line options that several commands share, and the setting of a run that each of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli.completion import keys, listed, names, presets
from ld3m_plugin.cli.verbosity import wants_json

Json = Annotated[
    bool,
    typer.Option("--json", callback=wants_json, is_eager=True, help="Print JSON instead of text; errors as well."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto for the best available [auto].")
]
Networks = Annotated[
    str | None,
    typer.Option(
        "--networks",
        autocompletion=names("network", several=True),
        help=f"Architectures to evaluate, separated by commas: {listed('network')} [the protocol's own].",
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        autocompletion=names("protocol"),
        help=f"Training recipe of the evaluation: {listed('protocol')}, or a YAML file [quick].",
    ),
]
Repeats = Annotated[
    int | None, typer.Option("--repeats", metavar="N", min=1, help="Networks trained for each row of the table.")
]
TestPerClass = Annotated[
    int | None,
    typer.Option("--test-per-class", metavar="N", min=1, help="Test images used of each class, evenly spaced [all]."),
]
OutFile = Annotated[Path | None, typer.Option("--out", help="File to write.")]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        *("--objective", "-o"),
        autocompletion=names("objective"),
        help=f"Objective: {listed('objective')} [see `ld3m presets show default`].",
    ),
]
ObjectiveOptions = Annotated[
    list[str] | None,
    typer.Option(
        "-O",
        metavar="KEY=VALUE",
        autocompletion=keys("objective"),
        help="Option of the objective (`ld3m plugins show NAME`); repeatable.",
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        autocompletion=names("dataset"),
        help=f"Data set, NAME or NAME:ARGUMENT: {listed('dataset')} [see `ld3m presets show default`].",
    ),
]
DataSettings = Annotated[
    list[str] | None,
    typer.Option(
        "-D",
        metavar="KEY=VALUE",
        autocompletion=keys("dataset"),
        help="Option of the data set (`ld3m plugins show NAME`); repeatable.",
    ),
]
SelectOn = Annotated[
    str | None,
    typer.Option(
        "--select-on",
        metavar="test|validation",
        help="What accuracies are of; validation: held-out training images [test].",
    ),
]
ImagesPerClass = Annotated[
    int | None, typer.Option("--ipc", metavar="N", min=1, help="Synthetic images per class [1].")
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", min=0, help="Updates of the latents [200].")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="Seed of all random streams [0].")]
ConfigFiles = Annotated[
    list[Path] | None, typer.Option("--config", metavar="FILE", help="YAML file with settings; repeatable.")
]
PresetNames = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        autocompletion=presets,
        help="Shipped settings (`ld3m presets` lists them); repeatable.",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="One setting by its path; repeatable.")
]

#: The setting that each option gives, by the name of the parameter.
PATHS = {
    "generator": "generator.name",
    "objective": "objective.name",
    "data": "data.name",
    "skip_unreadable": "data.options.skip_unreadable",
    "select_on": "data.options.select_on",
    "ipc": "images_per_class",
    "steps": "steps",
    "seed": "seed",
    "render_batch": "render_batch",
    "autocast": "autocast",
    "device": "device",
    "evaluate": "evaluation.final",
    "evaluate_every": "evaluation.every",
    "protocol": "evaluation.protocol",
    "networks": "evaluation.networks",
    "repeats": "evaluation.repeats",
    "test_per_class": "evaluation.test_per_class",
}

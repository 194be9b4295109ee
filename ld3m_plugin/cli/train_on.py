"""`ld3m train-on`: one network, trained on a distilled set, as a file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.artefact_data import data_of, recorded_seed
from ld3m_plugin.cli.common import assignments, check_name, prepare_process, say
from ld3m_plugin.errors import UsageError


def train_on_command(
    path: Annotated[Path, typer.Argument(help="Folder of a distilled set or of a run.")],
    network: Annotated[
        str, typer.Option("--network", help="Architecture, such as ConvNet (`ld3m plugins` lists them).")
    ],
    out: Annotated[Path, typer.Option("--out", help="New file of the weights, safetensors.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Data set whose test images are used [the one the set was made from].")
    ] = None,
    data_options: flags.DataSettings = None,
    protocol: flags.ProtocolName = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Seed of weights, order and augmentation [the run's]."),
    ] = None,
    device: flags.Device = None,
) -> None:
    """Train one network on a distilled set, test it on real images, and save its weights.

    For example: ld3m train-on runs/NAME --network ConvNet --out convnet.safetensors
    """
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.exports.trained_network import check_network, train_on
    from ld3m_plugin.storage import check_writable

    check_name(out)
    if out.exists():
        raise UsageError(f"{out} is there already: choose another --out")
    check_writable(out.parent, "choose another --out")
    prepare_process()
    distilled = DistilledSet.load(path)
    task = data_of(distilled, path, data, assignments(data_options), device)
    chosen = protocol or RunConfig().evaluation.protocol
    check_network(distilled, task, network, chosen)
    say(task.described(), err=True)
    say(f"training {network} on {len(distilled)} images", err=True)
    trained = train_on(
        distilled, task, network, protocol=chosen, seed=recorded_seed(distilled) if seed is None else seed
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    trained.save(out)
    say(f"test accuracy: {trained.accuracy:.1f} % (protocol {trained.protocol.name}, seed {trained.seed})")
    say(f"weights: {out}")

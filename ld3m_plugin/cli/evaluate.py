"""`ld3m evaluate`: train networks on a distilled set and test them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.artefact_data import data_of, recorded_seed
from ld3m_plugin.cli.common import assignments, check_name, comma_list, prepare_process, say
from ld3m_plugin.errors import MissingArtefactError, UsageError


def evaluate_command(
    path: Annotated[Path, typer.Argument(help="Folder of a distilled set or of a run.")],
    data: Annotated[
        str | None, typer.Option("--data", help="Data set whose test images are used [the one the set was made from].")
    ] = None,
    protocol: flags.ProtocolName = None,
    networks: flags.Networks = None,
    repeats: flags.Repeats = None,
    random_real: Annotated[
        bool, typer.Option("--random-real/--no-random-real", help="Also evaluate random real images.")
    ] = True,
    test_per_class: flags.TestPerClass = None,
    together: Annotated[
        str,
        typer.Option(
            "--together", help="Networks of a row trained at once, at most; 1: one by one; auto: by their sizes."
        ),
    ] = "auto",
    data_options: flags.DataSettings = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Seed of weights, order and augmentation [the run's]."),
    ] = None,
    device: flags.Device = None,
    out: flags.OutFile = None,
    as_json: flags.Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be evaluated and stop.")] = False,
) -> None:
    """Train networks on a distilled set and on random real images, and test them.

    \b
    Examples:
      ld3m evaluate runs/NAME
      ld3m evaluate runs/NAME --protocol glad-2023 --networks ConvNet,ViT --out table.json
      ld3m evaluate runs/NAME --data imagefolder:OTHER -D image_size=64 --json
    """
    if dry_run:
        _print_plan(path, data, protocol, comma_list(networks), repeats)
        return
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.cli.progress import ConsoleReporter
    from ld3m_plugin.cli.tables import print_accuracies
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.evaluation import evaluate, get_protocol
    from ld3m_plugin.storage import check_writable, write_json

    check_name(out)
    if together != "auto" and not (together.isdecimal() and int(together) >= 1):
        raise UsageError(f"--together {together!r}: give auto or a whole number of at least 1")
    prepare_process()
    distilled = DistilledSet.load(path)
    task = data_of(distilled, path, data, assignments(data_options), device)
    seed = recorded_seed(distilled) if seed is None else seed
    if out is not None:  # before the work, not after it
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder: name a file")
        out.parent.mkdir(parents=True, exist_ok=True)
        check_writable(out.parent, "choose another --out")
    say(task.described(), err=True)
    recipe = get_protocol(protocol or RunConfig().evaluation.protocol)
    chosen = comma_list(networks)
    with ConsoleReporter() as reporter:
        reporter.expect_trainings(len(chosen or recipe.networks) * (repeats or recipe.repeats) * (1 + random_real))
        result = evaluate(
            distilled,
            task,
            networks=chosen,
            protocol=recipe,
            repeats=repeats,
            random_real=random_real,
            test_per_class=test_per_class,
            together="auto" if together == "auto" else int(together),
            seed=seed,
            on_progress=reporter.evaluating,
        )
    try:
        if out is not None:
            write_json(out, result.record())
    finally:  # hours of training are not lost with a full disk
        if as_json:
            typer.echo(json.dumps(result.record(), indent=2))
        else:
            print_accuracies(result)


def _print_plan(path: Path, data: str | None, protocol: str | None, networks: list[str], repeats: int | None) -> None:
    """Check names and that a distilled set is there, without torch, and print what would be evaluated."""
    from ld3m_plugin.config import RunConfig
    from ld3m_plugin.registry import current_registry

    registry, recipe = current_registry(), protocol or RunConfig().evaluation.protocol
    if not any((folder / "metadata.json").is_file() for folder in (path, path / "distilled")):
        raise MissingArtefactError(f"no distilled set at {path}: metadata.json is missing")
    if isinstance(recipe, str) and not recipe.endswith((".yaml", ".yml")):
        registry.find("protocol", recipe)
    for network in networks:
        registry.find("network", network)
    plan: dict[str, Any] = {"path": str(path), "data": data or "the set's own", "protocol": recipe}
    plan |= {"networks": networks or "the protocol's own", "repeats": repeats or "the protocol's own"}
    typer.echo(json.dumps(plan, indent=2))

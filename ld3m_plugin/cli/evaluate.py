"""`ld3m evaluate`: train networks on a distilled set and test them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import assignments, check_name, comma_list, prepare_process, read_data, say
from ld3m_plugin.errors import ArtefactError, DataError, UsageError

if TYPE_CHECKING:
    from ld3m_plugin.artefact.distilled_set import DistilledSet


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
    test_per_class: Annotated[
        int | None,
        typer.Option("--test-per-class", min=1, help="Test images used of each class, evenly spaced [all]."),
    ] = None,
    data_options: flags.DataSettings = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of weights, order and augmentation [the run's].")
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
    from ld3m_plugin.data.load import moved_data
    from ld3m_plugin.evaluation import evaluate, get_protocol
    from ld3m_plugin.evaluation.same_data import check_data
    from ld3m_plugin.storage import check_writable, write_json

    check_name(out)
    prepare_process()
    distilled = DistilledSet.load(path)
    given = assignments(data_options)
    name, options = (data, given) if data else moved_data(*_recorded_data(distilled, path), given)
    try:
        task = read_data(name, options, device)
    except DataError as error:
        raise DataError(f"{error} (--data and -D name other data)") from error
    told = check_data(distilled.metadata, task, is_named=data is not None)
    if told is not None:
        typer.echo(f"warning: {told}", err=True)
    if seed is None:
        recorded = distilled.metadata.get("seed")
        seed = recorded if isinstance(recorded, int) and recorded >= 0 else 0
    if out is not None:  # before the work, not after it
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder: name a file")
        out.parent.mkdir(parents=True, exist_ok=True)
        check_writable(out.parent, "choose another --out")
    for line in task.described():
        say(line, err=True)
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
        raise ArtefactError(f"no distilled set at {path}: metadata.json is missing")
    if isinstance(recipe, str) and not recipe.endswith((".yaml", ".yml")):
        registry.find("protocol", recipe)
    for network in networks:
        registry.find("network", network)
    plan: dict[str, Any] = {"path": str(path), "data": data or "the set's own", "protocol": recipe}
    plan |= {"networks": networks or "the protocol's own", "repeats": repeats or "the protocol's own"}
    typer.echo(json.dumps(plan, indent=2))


def _recorded_data(distilled: DistilledSet, path: Path) -> tuple[str, dict[str, Any]]:
    from ld3m_plugin.data.load import recorded_options

    try:
        recorded = distilled.metadata["config"]["data"]
        return str(recorded["name"]), recorded_options(str(recorded["name"]), dict(recorded["options"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} does not record which data it was made from: give --data") from error

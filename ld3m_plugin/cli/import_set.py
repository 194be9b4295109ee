"""`ld3m import`: tensors of other programs, or exported latents, as a distilled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import assignments, check_name, comma_list, prepare_process, read_data, say
from ld3m_plugin.errors import UsageError

if TYPE_CHECKING:
    from ld3m_plugin.artefact.distilled_set import DistilledSet


def import_command(
    path: Annotated[Path, typer.Argument(help="images_best.pt, or a file of `ld3m export --to latents`.")],
    out: Annotated[Path, typer.Option("--out", help="New or empty folder of the distilled set.")],
    labels: Annotated[Path | None, typer.Option("--labels", help="File of the labels, such as labels_best.pt.")] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Mean per channel that images were normalised with: 0.48,0.46,0.41.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", help="Standard deviation per channel, likewise.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Class names in label order, by commas [the data's, or numbers].")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Data set that the images were made from, for class names and tests.")
    ] = None,
    data_options: flags.DataSettings = None,
    generator_options: Annotated[
        list[str] | None,
        typer.Option(
            "-G", metavar="KEY=VALUE", help="Option of the generator of latents, such as prior=PATH; repeatable."
        ),
    ] = None,
    device: flags.Device = None,
) -> None:
    """Make a distilled set of tensors that other programs saved, or render exported latents again.

    For example: ld3m import images_best.pt --labels labels_best.pt --mean 0.2860 --std 0.3530 --out set
    """
    from ld3m_plugin.storage import check_writable, complete_folder

    check_name(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: choose another --out")
    prepare_process()
    check_writable(out.parent, "choose another --out")
    of_tensors = {"--labels": labels, "--mean": mean, "--std": std, "--classes": classes, "--data": data}
    if path.suffix == ".safetensors":
        given = [name for name, value in {**of_tensors, "-D": data_options}.items() if value]
        if given:
            raise UsageError(f"{given[0]} has no effect on latents, which say it themselves: leave it out")
        distilled = _latents(path, generator_options, device)
    else:
        missing = [name for name in ("--labels", "--mean", "--std") if not of_tensors[name]]
        if labels is None or mean is None or std is None or missing:
            raise UsageError(
                f"{path} does not say its labels, or what its images were normalised with: give {' and '.join(missing)}"
            )
        if generator_options:
            raise UsageError("-G has no effect on images: leave it out")
        from ld3m_plugin.exports.imported_set import import_tensors

        task = read_data(data, assignments(data_options), device or "cpu") if data or data_options else None
        distilled = import_tensors(
            path, labels, _numbers("--mean", mean), _numbers("--std", std), class_names=comma_list(classes), task=task
        )
    with complete_folder(out) as folder:
        distilled.save(folder)
    say(f"distilled set: {out} ({len(distilled)} images)")


def _latents(path: Path, options: list[str] | None, device: str | None) -> DistilledSet:
    from ld3m_plugin.exports.latent_rendering import distilled_from_latents

    distilled, same = distilled_from_latents(path, assignments(options), device)
    told = {
        True: "the images are those that were exported, bit for bit",
        False: "warning: the images differ in bits from those that were exported (another machine, version or device)",
        None: "rendered from numbers of half precision: the images are close to those that were exported",
    }
    say(told[same], err=True)
    return distilled


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in comma_list(text)]
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: write a number for each channel, separated by commas") from error

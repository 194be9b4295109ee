"""`ld3m export`: a distilled set in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli.common import check_name, say


def export_command(
    path: Annotated[Path, typer.Argument(help="Folder of a distilled set or of a run.")],
    form: Annotated[
        str, typer.Option("--to", help="imagefolder, hf, webdataset, glad, npz or latents (docs/exports.md).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="New file or folder [exports/FORMAT in the folder].")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Latents as numbers of 16 bits; images then differ slightly.")
    ] = False,
    per_shard: Annotated[
        int | None, typer.Option("--per-shard", metavar="N", min=1, help="Images in a webdataset shard [1000].")
    ] = None,
) -> None:
    """Write a distilled set in the format of another tool.

    For example: ld3m export runs/NAME --to hf
    """
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.exports.export_formats import export, get_format
    from ld3m_plugin.exports.tar_shards import PER_SHARD
    from ld3m_plugin.storage import check_writable

    check_name(out)
    get_format(form)
    distilled = DistilledSet.load(path)
    out = out or path / "exports" / form
    check_writable(out.parent, "choose another --out")
    say(f"exported: {export(distilled, form, out, half=half, per_shard=per_shard or PER_SHARD)}")

"""`ld3m report`: a run or a comparison as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ld3m_plugin.cli.common import check_name, say
from ld3m_plugin.errors import UsageError


def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, a distilled set or a comparison.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file [report.html in the folder].")] = None,
) -> None:
    """Write one self-contained HTML file: results, images, training, settings and versions.

    Example: ld3m report runs/NAME --out results.html
    """
    check_name(out)
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out} is a folder: name a file")
    from ld3m_plugin.report.writing import write_report
    from ld3m_plugin.storage import check_writable

    if folder.is_dir():
        check_writable(folder if out is None else out.parent, "choose another --out")
    say(f"report: {write_report(folder, out)}")

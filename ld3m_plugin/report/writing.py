"""Write the report of a folder."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.comparison.manifest import MANIFEST
from ld3m_plugin.errors import MissingArtefactError
from ld3m_plugin.report.comparison_view import read_comparison
from ld3m_plugin.report.page import rendered
from ld3m_plugin.report.run_view import is_run, read_run
from ld3m_plugin.storage import write_text

REPORT = "report.html"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, a distilled set or a comparison as one HTML file, in one move.

    Args:
        out: the file; default: `report.html` in `folder`.

    Returns:
        The file.

    Raises:
        MissingArtefactError, ArtefactError: `folder` is none of these, or a file in it is damaged.
    """
    out = folder / REPORT if out is None else out
    if (folder / MANIFEST).is_file():
        page = rendered("comparison.html", view=read_comparison(folder, out.parent))
    elif is_run(folder):
        page = rendered("run.html", view=read_run(folder))
    else:
        raise MissingArtefactError(
            f"there is no run and no comparison in {folder}: give the folder that was their --out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out

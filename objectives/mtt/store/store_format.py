"""The version of a store's format, the base of the models it is read with, and one line on why reading failed."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ld3m_plugin.errors import ExpertError, one_line

#: Changes when the same settings would train other experts or write other files.
FORMAT = "ld3m-experts-2"
_ANY_FORMAT = re.compile(r"ld3m-experts-\d+")


class OtherVersionError(ExpertError):
    """A sound file or folder of experts in the format of another version of this library."""


class Record(BaseModel):
    """Base of what a store keeps as JSON: reading converts no types."""

    model_config = ConfigDict(strict=True, frozen=True)


def check_format(where: Path, found: object) -> None:
    """Accept nothing but the present format.

    Raises:
        OtherVersionError: `found` is the format of another version.
        ValueError: it is not a format of experts at all.
    """
    if found == FORMAT:
        return
    if not isinstance(found, str) or not _ANY_FORMAT.fullmatch(found):
        raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
    raise OtherVersionError(
        f"{where} was written by another version of this library (format {found}; this version reads {FORMAT}): choose "
        "another --root, or move it away and train or import again"
    )


def reason(error: Exception) -> str:
    """Say in one short line why a file cannot be read or written; of a model, the first field that is wrong."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        text = f"{place}: " * bool(place) + problem["msg"].removeprefix("Value error, ")
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return one_line(text)

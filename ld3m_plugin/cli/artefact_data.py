"""The data set of a distilled set, for commands that test networks on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.cli.common import read_data, say
from ld3m_plugin.errors import ArtefactError, DataError, UnknownBackendError

if TYPE_CHECKING:
    from ld3m_plugin.artefact.distilled_set import DistilledSet
    from ld3m_plugin.task import Task


def data_of(
    distilled: DistilledSet, path: Path, named: str | None, options: Mapping[str, Any], device: str | None
) -> Task:
    """Load the data set that a set was made from, or the one that is named, and check that it fits; other data is warned of.

    Args:
        path: of the set, for messages.
        options: options of the data set, beside those that the set records.

    Raises:
        HostError: the data cannot be read, or labels, sizes or scales differ.
    """
    from ld3m_plugin.data.data_settings import moved_data
    from ld3m_plugin.evaluation.same_data import check_data

    name, options = (named, options) if named else moved_data(*recorded_data(distilled, path), options)
    try:
        task = read_data(name, options, device)
    except DataError as error:
        raise DataError(f"{error} (--data and -D name other data)") from error
    told = check_data(distilled.metadata, task, is_named=named is not None)
    if told is not None:
        say(f"warning: {told}", err=True)
    return task


def recorded_seed(distilled: DistilledSet) -> int:
    """The seed of the run that a set is of; 0 where it is not known."""
    recorded = distilled.metadata.get("seed")
    return recorded if isinstance(recorded, int) and recorded >= 0 else 0


def recorded_data(distilled: DistilledSet, path: Path) -> tuple[str, dict[str, Any]]:
    """Name and options of the data set that a set was made from; raises `ArtefactError` where it does not say
    so, or no data set has that name."""
    from ld3m_plugin.data.data_settings import recorded_options

    try:
        recorded = distilled.metadata["config"]["data"]
        return str(recorded["name"]), recorded_options(str(recorded["name"]), dict(recorded["options"]))
    except UnknownBackendError as error:
        raise ArtefactError(
            f"{path} was made from data that no data set here is named after, {str(recorded['name'])!r}: give --data NAME or "
            "FOLDER with its test images"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} does not record which data it was made from: give --data") from error

"""`settings.json`: the settings and the wanted extent of a store, and which folders are stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files
from ld3m_plugin.objectives.mtt.store.store_format import OtherVersionError, Record, check_format, reason
from ld3m_plugin.objectives.mtt.store.store_identity import is_key, is_key_of
from ld3m_plugin.storage import read_json

SETTINGS = "settings.json"


class Wanted(Record):
    """The largest extent that was asked for; 0 epochs where experts were only imported."""

    count: int = Field(ge=0)
    epochs: int = Field(ge=0)


class DataFacts(Record):
    """The data as named when the folder was last written to."""

    name: str


class Description(Record):
    """The fields that are read from `settings.json`; the file has more of them for people."""

    key: str
    format: str
    data: dict[str, Any]
    settings: dict[str, Any]
    dtype: Literal["float32", "bf16"]
    wanted: Wanted
    task: DataFacts

    @model_validator(mode="after")
    def _has_the_key_of_its_settings(self) -> Self:
        if not is_key_of(self.key, {"format": self.format, "data": self.data, "settings": self.settings}):
            raise ValueError(f"its settings are not those of {self.key}")
        return self


def read_settings(folder: Path) -> Description:
    """Read `settings.json`.

    Raises:
        OtherVersionError: another version of this library wrote it.
        ExpertError: it is missing, damaged or not of a store.
    """

    def refusal(problem: str) -> ExpertError:
        return ExpertError(f"{folder} is not a store of experts ({problem}): choose another --root, or move it away")

    content = read_json(folder / SETTINGS, refusal)
    try:
        check_format(folder, content.get("format") if isinstance(content, dict) else None)
        return Description.model_validate(content)
    except ValueError as error:
        raise refusal(f"{SETTINGS} is damaged: {reason(error)}") from error


def store_folders(root: Path) -> list[Path]:
    """List the folders below `root` that are stores, including damaged ones and those of other versions.

    A folder is a store if it has experts, or settings that have a store's format or lie under a store's name.
    """
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and _is_store(path))


def _is_store(folder: Path) -> bool:
    if expert_files(folder) or (is_key(folder.name) and (folder / SETTINGS).is_file()):
        return True
    try:
        read_settings(folder)
    except ExpertError as error:
        return isinstance(error, OtherVersionError)
    return True

"""`settings.json`: what a store says of itself, and which folders are stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files
from ld3m_plugin.objectives.mtt.store.store_identity import FORMAT, OtherVersionError, check_format, is_key, is_key_of

SETTINGS = "settings.json"


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class Wanted(_Checked):
    """How much of a store was asked for; 0 epochs where experts were imported alone."""

    count: int = Field(ge=0)
    epochs: int = Field(ge=0)


class DataFacts(_Checked):
    """The data as it was named when the folder was last written to."""

    name: str


class Description(_Checked):
    """What is read of `settings.json`; the file has more for people."""

    key: str
    format: str
    data: dict[str, Any]
    settings: dict[str, Any]
    dtype: Literal["float32", "bf16"]
    wanted: Wanted
    task: DataFacts


def read_settings(folder: Path) -> Description:
    """What `settings.json` says.

    Raises:
        OtherVersionError: another version of this library wrote it.
        ExpertError: it is missing, damaged or not of a store.
    """
    path = folder / SETTINGS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_format(folder, content.get("format") if isinstance(content, dict) else None)
        described = Description.model_validate(content)
    except FileNotFoundError as error:
        raise _no_store(folder, f"{SETTINGS} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _no_store(folder, f"{SETTINGS} is damaged: {_reason(error)}") from error
    facts = {"format": described.format, "data": described.data, "settings": described.settings}
    if described.format != FORMAT:
        raise _no_store(folder, f"{SETTINGS} is damaged: its format is {described.format!r}")
    if not is_key_of(described.key, facts):
        raise _no_store(folder, f"{SETTINGS} is damaged: its settings are not those of {described.key}")
    return described


def store_folders(root: Path) -> list[Path]:
    """The folders below `root` that are stores, damaged ones and those of other versions too.

    Others are nobody's business here: a folder is a store's by experts in it, or by its settings with a store's name or format.
    """
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and _is_store(path))


def _is_store(folder: Path) -> bool:
    if expert_files(folder):
        return True
    if not (folder / SETTINGS).is_file():
        return False
    try:
        read_settings(folder)
    except OtherVersionError:
        return True
    except ExpertError:
        return is_key(folder.name)
    return True


def _no_store(folder: Path, why: str) -> ExpertError:
    return ExpertError(f"{folder} is not a store of experts ({why}): choose another --root, or move it away")


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, problem["loc"]))
        return f"{where}: {problem['msg']}" if where else problem["msg"]
    if isinstance(error, OSError):
        return str(error.strerror)
    return "it is no JSON"

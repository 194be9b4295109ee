"""Reading the files of a distilled set: whatever is wrong with one becomes one line that names it.

Artefacts are passed on, edited and cut off by full disks. What got through here would show as a traceback in the middle of
an evaluation, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, ValidationInfo, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError

FORMAT = 1

# Rounding of a thousand probabilities, also of ones that were once kept in half precision, stays below.
_SUM_TOLERANCE = 1e-3


class _Metadata(BaseModel):
    """What images and labels cannot be understood without; all other keys of `metadata.json` are free."""

    model_config = ConfigDict(strict=True)

    format: int = Field(ge=1)
    class_names: list[str] = Field(min_length=1)
    mean: list[FiniteFloat] = Field(min_length=1)
    std: list[Annotated[FiniteFloat, Field(gt=0)]]
    learned: dict[str, FiniteFloat] = {}

    @field_validator("std")
    @classmethod
    def _one_a_channel(cls, std: list[float], info: ValidationInfo) -> list[float]:
        channels = len(info.data.get("mean", std))
        if len(std) != channels:
            raise ValueError(f"mean has {channels} values, std {len(std)}")
        return std


def read_metadata(path: Path) -> dict[str, Any]:
    """All of `metadata.json`, with a sound format, `class_names`, `mean` and `std`.

    Raises:
        ArtefactError: the file is missing or damaged, newer than this version, or something else.
    """
    content = _read_json(path)
    needed = {name for name, field in _Metadata.model_fields.items() if field.is_required()}
    missing = needed - set(content if isinstance(content, Mapping) else ())
    if missing:
        raise ArtefactError(f"{path} is not the metadata of a distilled set: {', '.join(sorted(missing))} missing")
    # First of all: a later format may well write the other keys in another way.
    if isinstance(content["format"], int) and content["format"] > FORMAT:
        raise ArtefactError(
            f"{path} has format {_one_line(str(content['format']))}, this version reads up to {FORMAT}: update ld3m-plugin"
        )
    try:
        checked = _Metadata.model_validate(content)
    except ValidationError as error:
        raise ArtefactError(f"{path}: {_first_problem(error)}") from error
    # JSON may say 0 for 0.0; tensors made of whole numbers would be of another type.
    return {**content, "mean": checked.mean, "std": checked.std}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(f"no distilled set at {path.parent}: {path.name} is missing") from error
    except (ValueError, RecursionError, OSError) as error:
        # Not only JSONDecodeError: text that is not UTF-8, a number too long to convert, brackets nested too deep.
        raise _damaged(path, error) from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where} = {_one_line(repr(problem['input']))}: {problem['msg'].removeprefix('Value error, ')}"


def _one_line(text: str, most: int = 60) -> str:
    """`text` without line breaks, cut off after `most` characters: files may hold anything."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[:most] + "..."


def read_images(path: Path, channels: int, classes: int) -> tuple[Tensor, Tensor]:
    """The images (N, channels, H, H), and the labels (N,) or (N, classes), of `images.safetensors`.

    Raises:
        ArtefactError: the file is missing or damaged, or holds what no network can be trained on.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if set(tensors) != {"images", "labels"}:
        names = _one_line(", ".join(sorted(tensors)) or "nothing")
        raise ArtefactError(f"{path} must hold images and labels, it has {names}")
    images, labels = tensors["images"], tensors["labels"]
    for problem in _problems(images, labels, channels, classes):
        raise ArtefactError(f"{path}: {problem}")
    return images, labels


def read_latents(path: Path) -> Latents:
    """What `Latents.save` wrote.

    Raises:
        ArtefactError: the file is damaged, or its tensors and the names in its header do not fit.
    """
    try:
        return Latents.load(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(f"{path} is damaged: {_one_line(str(error), 300)}")


def _problems(images: Tensor, labels: Tensor, channels: int, classes: int) -> Iterator[str]:
    """What is wrong, as far as the first problem: a check may rely on those before it."""
    if labels.ndim not in (1, 2):
        yield f"labels {tuple(labels.shape)} are neither class indices (N,) nor probabilities (N, K)"
    if images.ndim != 4 or len(images) != len(labels) or images.shape[1] != channels:
        yield (
            f"images {tuple(images.shape)} and labels {tuple(labels.shape)} "
            f"do not fit each other or {channels} channels"
        )
    yield from _image_problems(images)
    yield from _index_problems(labels, classes) if labels.ndim == 1 else _probability_problems(labels, classes)


def _image_problems(images: Tensor) -> Iterator[str]:
    if images.numel() == 0:
        yield f"images {tuple(images.shape)} are empty"
    if images.shape[2] != images.shape[3]:
        yield f"images {tuple(images.shape)} are not square"
    if images.dtype != torch.float32:
        yield f"images are {_name(images.dtype)}, not float32"
    if not images.isfinite().all():
        yield "images have values that are NaN or infinite"


def _index_problems(labels: Tensor, classes: int) -> Iterator[str]:
    if labels.dtype != torch.int64:
        yield f"labels are {_name(labels.dtype)}, class indices must be int64"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        yield f"labels go from {low} to {high}, but there are {classes} class names"


def _probability_problems(labels: Tensor, classes: int) -> Iterator[str]:
    if labels.shape[1] != classes:
        yield f"labels {tuple(labels.shape)} are probabilities of {labels.shape[1]} classes, not of {classes} class names"
    if labels.dtype != torch.float32:
        yield f"labels are {_name(labels.dtype)}, probabilities must be float32"
    if not labels.isfinite().all():
        yield "labels have probabilities that are NaN or infinite"
    if labels.min() < 0:
        yield f"labels have negative probabilities, such as {float(labels.min()):g}"
    sums = labels.sum(1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if abs(worst - 1) > _SUM_TOLERANCE:
        yield f"labels have probabilities that sum to {worst:g}, not to 1"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

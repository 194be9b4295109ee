"""Read and check the files of a distilled set: any fault becomes one line that names the file.

Artefacts are passed on, edited, and truncated by full disks. A fault that is missed here shows as a traceback in the middle of
an evaluation, or never.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationInfo, field_validator
from torch import Tensor

from ld3m_plugin.errors import ArtefactError, UsageError, one_line
from ld3m_plugin.images.whitening import Whitening
from ld3m_plugin.options import build
from ld3m_plugin.storage import read_json, read_tensors

FORMAT = 1

# A sum of a thousand probabilities that were once kept in half precision is off by less.
_SUM_TOLERANCE = 1e-3


class _Part(BaseModel):
    """Part of the metadata: the keys that are named are checked, others are free."""

    model_config = ConfigDict(strict=True)


class _Named(_Part):
    """Data set, generator or objective."""

    name: str = ""
    source: str = ""


class _Row(_Part):
    """One row of accuracies."""

    network: str
    images: str
    mean: FiniteFloat
    std: FiniteFloat | None
    n: int


class _Recipe(_Part):
    name: str
    summary: str


class _Final(_Part):
    rows: list[_Row] = Field(min_length=1)
    test_images: int
    protocol: _Recipe


class _Results(_Part):
    final: _Final | None = None


class _Metadata(_Part):
    """The keys that images and labels need, and those that the card quotes; all other keys of `metadata.json` are free."""

    format: int = Field(ge=1)
    class_names: list[str] = Field(min_length=1)
    mean: list[FiniteFloat] = Field(min_length=1)
    std: list[Annotated[FiniteFloat, Field(gt=0)]]
    learned: dict[str, FiniteFloat] = {}
    data: _Named = _Named()
    generator: _Named = _Named()
    objective: _Named = _Named()
    versions: dict[str, str] = {}
    results: _Results | None = None
    seed: int = Field(0, ge=0)
    steps: int = Field(0, ge=0)
    images_per_class: int = Field(1, ge=1)

    # The first field, so its problem is the one reported: a later format may write the other keys in another way.
    @field_validator("format")
    @classmethod
    def _not_newer(cls, number: int) -> int:
        if number > FORMAT:
            raise ValueError(f"this version reads up to {FORMAT}: update ld3m-plugin")
        return number

    @field_validator("std")
    @classmethod
    def _one_a_channel(cls, std: list[float], info: ValidationInfo) -> list[float]:
        channels = len(info.data.get("mean", std))
        if len(std) != channels:
            raise ValueError(f"mean has {channels} values, std {len(std)}")
        return std


def read_metadata(path: Path) -> dict[str, Any]:
    """Read all of `metadata.json`, with valid `format`, `class_names`, `mean` and `std`.

    Raises:
        ArtefactError: the file is missing, damaged, of a later format, or not the metadata of a distilled set.
    """
    content = read_json(path, ArtefactError)
    checked = check_metadata(content, str(path))
    # JSON may say 0 for 0.0; tensors made of whole numbers would be of another type.
    return {**content, "mean": checked.mean, "std": checked.std}


def check_metadata(content: Any, owner: str) -> _Metadata:
    """Check what is in `metadata.json`, or shall be.

    Args:
        owner: stands for the content in the message.

    Raises:
        ArtefactError: a key that is needed is missing, a value is not what the artefact and its card need, or no JSON.
    """
    try:
        content = json.loads(json.dumps(content, ensure_ascii=False).encode())  # as it is read: tuples are lists
        return build(_Metadata, content if isinstance(content, dict) else {}, owner)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{owner} is not JSON in UTF-8: {one_line(str(error))}") from error
    except UsageError as error:
        raise ArtefactError(str(error)) from error


def read_images(path: Path, channels: int, classes: int) -> tuple[Tensor, Tensor]:
    """Read the images (N, channels, H, H), and the labels (N,) or (N, classes), of `images.safetensors`.

    Raises:
        ArtefactError: the file is missing or damaged, or no network can be trained on its content.
    """
    tensors, _ = read_tensors(path, ArtefactError)
    if set(tensors) != {"images", "labels"}:
        names = one_line(", ".join(sorted(tensors)) or "nothing", 60)
        raise ArtefactError(f"{path} must hold images and labels, it has {names}")
    images, labels = tensors["images"], tensors["labels"]
    check_images(images, labels, channels, classes, str(path))
    return images, labels


def is_whitened(metadata: Mapping[str, Any]) -> bool:
    """Whether images with this metadata are whitened."""
    data = metadata.get("data")
    return isinstance(data, Mapping) and data.get("zca") is True


def read_whitening(path: Path, metadata: Mapping[str, Any], numbers: int) -> Whitening | None:
    """Read the map of whitened images; None where the metadata says that they are not whitened.

    Args:
        numbers: of an image, C * H * W.

    Raises:
        ArtefactError: the file is missing or damaged, or is of other images.
    """
    if not is_whitened(metadata):
        return None
    if not path.is_file():
        raise ArtefactError(f"{path} is missing, and the images are whitened: copy the whole folder again")
    tensors, _ = read_tensors(path, ArtefactError)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != {"mean": (numbers,), "matrix": (numbers, numbers)}:
        raise ArtefactError(f"{path} does not hold mean ({numbers},) and matrix ({numbers}, {numbers}): copy it again")
    if not all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ArtefactError(f"{path} is damaged: its numbers are not finite float32; copy it again")
    return Whitening(tensors["mean"], tensors["matrix"])


def check_images(images: Tensor, labels: Tensor, channels: int, classes: int, owner: str) -> None:
    """Check images (N, channels, H, H), and labels (N,) or (N, classes); raises `ArtefactError`, which begins with `owner`."""
    for problem in _problems(images, labels, channels, classes):
        raise ArtefactError(f"{owner}: {problem}")


def check_labels_alone(labels: Tensor, classes: int, path: Path) -> None:
    """Check labels (N,) or (N, classes), of images that are not there yet; raises `ArtefactError`."""
    for problem in _label_problems(labels, classes):
        raise ArtefactError(f"{path}: {problem}")


def _problems(images: Tensor, labels: Tensor, channels: int, classes: int) -> Iterator[str]:
    """Problems, of which only the first counts: a check may rely on those before it."""
    shape = f"images {tuple(images.shape)}"
    if labels.ndim not in (1, 2):
        yield f"labels {tuple(labels.shape)} are neither class indices (N,) nor probabilities (N, K)"
    if images.ndim != 4 or len(images) != len(labels) or images.shape[1] != channels:
        yield f"{shape} and labels {tuple(labels.shape)} do not fit each other or {channels} channels"
    if images.numel() == 0:
        yield f"{shape} are empty"
    if images.shape[2] != images.shape[3]:
        yield f"{shape} are not square"
    if images.dtype != torch.float32:
        yield f"images are {images.dtype}, not float32"
    if not images.isfinite().all():
        yield "images have values that are NaN or infinite"
    yield from _label_problems(labels, classes)


def _label_problems(labels: Tensor, classes: int) -> Iterator[str]:
    if labels.ndim not in (1, 2) or not len(labels):
        yield f"labels {tuple(labels.shape)} are neither class indices (N,) nor probabilities (N, K)"
    yield from _index_problems(labels, classes) if labels.ndim == 1 else _probability_problems(labels, classes)


def _index_problems(labels: Tensor, classes: int) -> Iterator[str]:
    if labels.dtype != torch.int64:
        yield f"labels are {labels.dtype}, class indices must be int64"
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        yield f"labels go from {low} to {high}, but there are {classes} class names"


def _probability_problems(labels: Tensor, classes: int) -> Iterator[str]:
    if labels.shape[1] != classes:
        yield f"labels {tuple(labels.shape)} are probabilities of {labels.shape[1]} classes, not of {classes} class names"
    if labels.dtype != torch.float32:
        yield f"labels are {labels.dtype}, probabilities must be float32"
    if not labels.isfinite().all():
        yield "labels have probabilities that are NaN or infinite"
    if labels.min() < 0:
        yield f"labels have negative probabilities, such as {float(labels.min()):g}"
    sums = labels.sum(1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if abs(worst - 1) > _SUM_TOLERANCE:
        yield f"labels have probabilities that sum to {worst:g}, not to 1"

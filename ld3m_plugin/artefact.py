"""The distilled set on disk: a folder that explains itself.

`images.safetensors` holds exactly the images that were evaluated, and their labels; `metadata.json` everything needed to use
and to repeat them; `latents.safetensors` what rendered them; `images/<class>/<n>.png` and `grid.png` what they look like.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.pictures import save_grid, save_png
from ld3m_plugin.storage import write_json

FORMAT = 1
IMAGES, LATENTS, METADATA = "images.safetensors", "latents.safetensors", "metadata.json"


@dataclass
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set; as a `torch.utils.data.Dataset` its items are (image (C, H, W), label).

    Attributes:
        images: (N, C, H, W) float32, normalised with the mean and std of the metadata.
        labels: class indices (N,) int64, or probabilities (N, K) float32.
        metadata: what `metadata.json` holds; `class_names`, `mean` and `std` are always there.
        latents: what rendered the images, where it was kept.
    """

    images: Tensor
    labels: Tensor
    metadata: dict[str, Any]
    latents: Latents | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def class_names(self) -> list[str]:
        """K names, in label order."""
        return list(self.metadata["class_names"])

    def denormalised(self) -> Tensor:
        """The images (N, C, H, W) in [0, 1], clipped there: what a picture shows."""
        mean, std = (torch.tensor(self.metadata[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        return (self.images * std + mean).clamp(0, 1)

    def save(self, folder: Path | str) -> None:
        """Write the whole artefact into `folder`, which is created."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"images": self.images.contiguous(), "labels": self.labels.contiguous()}, folder / IMAGES)
        if self.latents is not None:
            self.latents.save(folder / LATENTS)
        self._save_pictures(folder)
        self.save_metadata(folder)

    def save_metadata(self, folder: Path | str) -> None:
        """Write `metadata.json` and the dataset card, such as after an evaluation has added results."""
        from ld3m_plugin.card import dataset_card

        write_json(Path(folder) / METADATA, {"format": FORMAT, **self.metadata})
        (Path(folder) / "README.md").write_text(dataset_card(self.metadata), encoding="utf-8")

    def _save_pictures(self, folder: Path) -> None:
        pictures = self.denormalised()
        hard = self.labels if self.labels.ndim == 1 else self.labels.argmax(1)
        for index, name in enumerate(class_folders(self.class_names)):
            (folder / "images" / name).mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(pictures[hard == index]):
                save_png(picture, folder / "images" / name / f"{number}.png")
        save_grid(pictures, folder / "grid.png", columns=_columns(hard))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read an artefact, or the one inside a run folder.

        Raises:
            ArtefactError: a file is missing or damaged; the message names it.
        """
        folder = Path(path)
        if not (folder / METADATA).is_file() and (folder / "distilled" / METADATA).is_file():
            folder = folder / "distilled"
        metadata = _read_metadata(folder / METADATA)
        tensors = _read_tensors(folder / IMAGES)
        _check(folder, metadata, tensors)
        latents = Latents.load(folder / LATENTS) if (folder / LATENTS).is_file() else None
        return cls(tensors["images"], tensors["labels"], metadata, latents)


def class_folders(class_names: list[str]) -> list[str]:
    """A folder name for each class; in alphabetical order they are in label order.

    >>> class_folders(["T-shirt/top", "Bag"])
    ['0_T-shirt-top', '1_Bag']
    """
    width = len(str(len(class_names) - 1))
    slugs = [re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-") for name in class_names]
    return [f"{index:0{width}d}_{slug}".rstrip("_") for index, slug in enumerate(slugs)]


def _columns(labels: Tensor) -> int:
    per_class = int(labels.bincount().max())
    # One row a class; a single image a class makes a compact block instead of a tower.
    return per_class if per_class > 1 else max(1, round(len(labels) ** 0.5 * 1.5))


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"no distilled set at {path.parent}: {path.name} is missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error
    missing = {"class_names", "mean", "std", "format"} - set(metadata if isinstance(metadata, Mapping) else ())
    if missing:
        raise ArtefactError(f"{path} is not the metadata of a distilled set: {', '.join(sorted(missing))} missing")
    if metadata["format"] > FORMAT:
        raise ArtefactError(
            f"{path} has format {metadata['format']}, this version reads up to {FORMAT}: update ld3m-plugin"
        )
    return dict(metadata)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged: {error}") from error
    return tensors


def _check(folder: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if set(tensors) != {"images", "labels"}:
        raise ArtefactError(
            f"{folder / IMAGES} must hold images and labels, it has {', '.join(sorted(tensors)) or 'nothing'}"
        )
    images, labels = tensors["images"], tensors["labels"]
    if images.ndim != 4 or len(images) != len(labels) or images.shape[1] != len(metadata["mean"]):
        raise ArtefactError(
            f"{folder / IMAGES}: images {tuple(images.shape)} and labels {tuple(labels.shape)} "
            f"do not fit each other or {len(metadata['mean'])} channels"
        )

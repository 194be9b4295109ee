"""The distilled set on disk: a folder that explains itself.

`images.safetensors` holds exactly the images that were evaluated, and their labels; `metadata.json` all that is needed to use
and to repeat them (`runs/provenance.py` composes it); `latents.safetensors` the latents they were rendered from;
`whitening.safetensors` the map of whitened images;
`images/<class>/<n>.png` and `grid.png` show them; `README.md` is a card with which 🤗 Datasets opens the folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ld3m_plugin.artefact.picture_folder import save_pictures
from ld3m_plugin.artefact.pictures import save_class_grid
from ld3m_plugin.artefact.reading import FORMAT, check_metadata, read_images, read_metadata, read_whitening
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import MissingArtefactError
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.images.whitening import Whitening
from ld3m_plugin.storage import write_json, write_tensors, write_text

IMAGES, LATENTS, METADATA = "images.safetensors", "latents.safetensors", "metadata.json"
WHITENING = "whitening.safetensors"


@dataclass
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set; as a `torch.utils.data.Dataset` its items are (image (C, H, W), label).

    Attributes:
        images: (N, C, H, W) float32, normalised with the mean and std of the metadata, then whitened where `whitening` is given.
        labels: class indices (N,) int64, or probabilities (N, K) float32.
        metadata: the content of `metadata.json`, with `class_names`, `mean` and `std` at least.
        latents: the latents that the images were rendered from; None where they were not kept.
        whitening: the map of data with `zca=true`, which test images need too; None: there is none.
    """

    images: Tensor
    labels: Tensor
    metadata: dict[str, Any]
    latents: Latents | None = field(default=None, repr=False)
    whitening: Whitening | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """A line: images, classes, and what made them."""
        config = self.metadata.get("config")
        config = config if isinstance(config, dict) else {}
        parts = [config.get(part) for part in ("generator", "objective", "data")]
        made = [str(part["name"]) for part in parts if isinstance(part, dict) and "name" in part]
        shape = "x".join(map(str, self.images.shape[1:]))
        names = self.metadata.get("class_names", ())
        return f"DistilledSet({', '.join([f'{len(self)} images of {shape}', f'{len(names)} classes', *made])})"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def class_names(self) -> list[str]:
        """K names, in label order."""
        return list(self.metadata["class_names"])

    @property
    def learned(self) -> dict[str, float]:
        """Numbers that the objective learned with the images, such as `synthetic_learning_rate`."""
        return dict(self.metadata.get("learned", {}))

    def denormalised(self) -> Tensor:
        """The images (N, C, H, W) as pictures show them: in [0, 1], clipped."""
        mean, std = (torch.tensor(self.metadata[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        images = self.images if self.whitening is None else self.whitening.undo(self.images)
        return (images * std + mean).clamp(0, 1)

    def save(self, folder: Path | str) -> None:
        """Write the whole artefact into `folder`, which is created.

        Raises:
            ArtefactError: `metadata` lacks what images and labels need, or is nothing that `load` would read.
        """
        folder = Path(folder)
        check_metadata({"format": FORMAT, **self.metadata}, f"the metadata for {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / IMAGES, {"images": self.images, "labels": self.labels})
        if self.latents is not None:
            self.latents.save(folder / LATENTS)
        if self.whitening is not None:
            write_tensors(folder / WHITENING, {"mean": self.whitening.mean, "matrix": self.whitening.matrix})
        self._save_pictures(folder)
        self.save_metadata(folder)

    def save_metadata(self, folder: Path | str) -> None:
        """Write `metadata.json` and the dataset card, for example after an evaluation has added results."""
        from ld3m_plugin.artefact.card import dataset_card

        content = {"format": FORMAT, **self.metadata}
        check_metadata(content, f"the metadata for {folder}")
        write_json(Path(folder) / METADATA, content)
        write_text(Path(folder) / "README.md", dataset_card(self.metadata, soft=self.labels.ndim == 2))

    def _save_pictures(self, folder: Path) -> None:
        pictures = self.denormalised()
        save_pictures(pictures, self.labels, self.class_names, folder / "images")
        save_class_grid(pictures, hard_labels(self.labels), self.class_names, folder / "grid.png")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read an artefact from its folder or from its run folder.

        Raises:
            ArtefactError: a file is missing or damaged, or its content does not fit; the message is one line that names it.
        """
        candidates = (Path(path), Path(path) / "distilled")
        folder = next((candidate for candidate in candidates if (candidate / METADATA).is_file()), None)
        if folder is None:
            raise MissingArtefactError(f"no distilled set at {path}: {METADATA} is missing")
        metadata = read_metadata(folder / METADATA)
        images, labels = read_images(folder / IMAGES, len(metadata["mean"]), len(metadata["class_names"]))
        latents = Latents.load(folder / LATENTS) if (folder / LATENTS).is_file() else None
        whitening = read_whitening(folder / WHITENING, metadata, images[0].numel())
        return cls(images, labels, metadata, latents, whitening)

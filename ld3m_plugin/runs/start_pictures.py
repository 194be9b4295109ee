"""The images that a run started from, for reports: `start.safetensors` in the run folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.pictures import Names, save_grid
from ld3m_plugin.artefact.shown_images import shown_indices
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.runs.folder import START, START_NOW
from ld3m_plugin.storage import read_tensors, write_tensors

_IN_STRIP = 10


def save_start(state: Distillation, folder: Path) -> None:
    """Write the images that the first step matched, as pictures of 8 bits, and where they are among all images."""
    indices, images = torch.tensor(list(state.start_images)), torch.stack(list(state.start_images.values()))
    pictures = (state.task.denormalise(images).clamp(0, 1) * 255).round().to(torch.uint8)
    write_tensors(folder / START, {"pictures": pictures, "indices": indices})


def save_start_now(distilled: DistilledSet, folder: Path) -> None:
    """Write a strip of up to ten images: as they started above, as they are below; nothing where no start was kept.

    Raises:
        ArtefactError: the record of the start is damaged.
    """
    start, now = read_start(folder), distilled.denormalised()
    shown = [index for index in shown_indices(distilled.labels, _IN_STRIP) if index in start]
    if not shown or any(start[index].shape != now[index].shape for index in shown):
        return
    hard = hard_labels(distilled.labels)
    pictures = torch.cat([torch.stack([start[index] for index in shown]), now[shown]])
    names = Names(rows=("start", "now"), columns=[distilled.class_names[int(hard[index])] for index in shown])
    save_grid(pictures, folder / START_NOW, len(shown), names)


def read_start(folder: Path) -> dict[int, Tensor]:
    """Read the images a run started from, (C, H, W) in [0, 1], by index; none where they were not kept.

    Raises:
        ArtefactError: the file is damaged.
    """
    path = folder / START
    if not path.is_file():
        return {}
    tensors, _ = read_tensors(path, ArtefactError)
    pictures, indices = tensors.get("pictures"), tensors.get("indices")
    if (
        pictures is None
        or indices is None
        or pictures.ndim != 4
        or pictures.dtype != torch.uint8
        or indices.shape != pictures.shape[:1]
        or pictures.shape[1] not in (1, 3)
    ):
        raise ArtefactError(f"{path} is damaged: it does not hold pictures and their indices; delete it")
    return dict(zip(indices.tolist(), (pictures / 255).unbind(), strict=True))

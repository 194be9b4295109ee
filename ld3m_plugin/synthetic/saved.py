"""The artefact of a caller's loop: what `ld3m distill` writes, as far as it is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import IMAGES, LATENTS, METADATA, WHITENING, DistilledSet
from ld3m_plugin.config import RunConfig, changed
from ld3m_plugin.errors import NonFiniteError, UsageError
from ld3m_plugin.evaluation.predictions import PREDICTIONS
from ld3m_plugin.runs.provenance import start_metadata
from ld3m_plugin.storage import complete_folder, signals_held

if TYPE_CHECKING:
    from ld3m_plugin.synthetic.module import Synthetic

#: The objective's name where a caller gives none.
OWN_LOOP = "own-loop"
_OURS = {IMAGES, LATENTS, METADATA, WHITENING, PREDICTIONS, "images", "grid.png", "README.md"}


def distilled_set(
    syn: Synthetic,
    config: RunConfig,
    images: Tensor,
    objective: str,
    learned: Mapping[str, float],
    networks: tuple[str, ...],
) -> DistilledSet:
    """The images with their latents and what is known of them.

    Raises:
        NonFiniteError: an image is not finite.
    """
    if not torch.isfinite(images).all():
        raise NonFiniteError("images are not finite: lower the learning rate; nothing is saved")
    config = changed(config, "objective", name=objective).model_copy(update={"steps": syn.iteration})
    metadata = {
        **start_metadata(config, syn.task, syn.generator, syn.latents),
        "objective": {"name": objective},
        "learned": dict(learned),
        "seen_networks": list(networks),
        "steps": syn.iteration,
    }
    latents = syn.latents.clone().to("cpu")
    return DistilledSet(images.cpu(), syn.labels.cpu(), metadata, latents, syn.task.whitening)


def save_set(distilled: DistilledSet, folder: Path) -> None:
    """Write the whole set or nothing; a distilled set that lies there is replaced.

    Raises:
        UsageError: something else is in the folder.
    """
    if folder.exists():
        others = sorted({path.name for path in folder.iterdir()} - _OURS) if folder.is_dir() else [folder.name]
        if others:
            raise UsageError(
                f"{folder} has something else in it ({', '.join(others[:3])}): move that away, or choose a folder of its own"
            )
    with signals_held(), complete_folder(folder.absolute()) as partial:
        distilled.save(partial)

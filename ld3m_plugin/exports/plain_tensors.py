"""Images and labels as plain arrays: what training scripts load with torch or numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.storage import naming, write_json

IMAGES_PT, LABELS_PT, FACTS = "images_best.pt", "labels_best.pt", "classes.json"


def write_tensor_pickles(distilled: DistilledSet, folder: Path) -> None:
    """Write `images_best.pt` and `labels_best.pt`, as the code of DC, MTT and GLaD saves them, and `classes.json`.

    They are files of `torch.save` that hold one tensor each: images (N, C, H, W) float32, normalised, and labels (N,) int64 or
    (N, K) float32. `torch.load(PATH, weights_only=True)` reads them.
    """
    for name, tensor in ((IMAGES_PT, distilled.images), (LABELS_PT, distilled.labels)):
        with naming(folder / name):
            torch.save(tensor.detach().cpu().clone(), folder / name)  # a view would be saved with all of its storage
    write_facts(distilled, folder)


def write_npz(distilled: DistilledSet, path: Path) -> None:
    """Write the arrays `images`, `labels`, `class_names`, `mean` and `std`; `numpy.load` reads them without pickles.

    Of whitened images, `zca_mean` and `zca_matrix` as well.
    """
    with naming(path), path.open("wb") as file:
        numpy.savez(
            file,
            images=distilled.images.detach().cpu().numpy(),
            labels=distilled.labels.cpu().numpy(),
            class_names=numpy.array(distilled.class_names, dtype=numpy.str_),
            mean=numpy.array(distilled.metadata["mean"], dtype=numpy.float32),
            std=numpy.array(distilled.metadata["std"], dtype=numpy.float32),
            **_whitening(distilled),
        )


def _whitening(distilled: DistilledSet) -> dict[str, Any]:
    found = distilled.whitening
    return {} if found is None else {"zca_mean": found.mean.numpy(), "zca_matrix": found.matrix.numpy()}


def write_facts(distilled: DistilledSet, folder: Path) -> None:
    """Write `classes.json`: class names in label order, mean and std of normalised images, `zca` where they are whitened."""
    facts = {name: distilled.metadata[name] for name in ("class_names", "mean", "std")}
    write_json(folder / FACTS, facts if distilled.whitening is None else {**facts, "zca": True})

"""Diffusion transformers as diffusers stores them: their tables of labels, and the names of their classes.

A DiT adds the vector of a label to the embedding of the time (Peebles and Xie, "Scalable Diffusion Models with Transformers",
ICCV 2023, section 3.2). The published model has one table of labels. diffusers' `DiTTransformer2DModel` has one in every block:
a conversion fills them with copies, and a training in diffusers moves them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ld3m_plugin.errors import PriorError, one_line
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.model_settings import DIT, class_name
from ld3m_plugin.priors.classes import class_names, imagenet_classes

_LABELS = "id2label"


class GivenVectors(nn.Module):
    """Takes the place of a block's table of labels: gives the block's part (n, size) of given vectors (n, d)."""

    def __init__(self, start: int, size: int) -> None:
        super().__init__()
        self.part = slice(start, start + size)

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[:, self.part]


def check_dit(path: Path) -> None:
    """Reject the configuration of a transformer that is no DiT: others need text, or have another forward pass."""
    config = files.read_json(path)
    if class_name(config) != DIT:
        stated = config.get("_class_name")
        raise PriorError(f"{path}: a transformer prior {stated!r} is not read; {DIT} and U-Nets are")


def check_shape(path: Path, config: Any) -> None:
    """Reject a DiT whose patches do not cover its latents, or whose output is neither noise nor noise and variance."""
    if config.sample_size % config.patch_size:
        raise PriorError(
            f"{path}: sample_size = {config.sample_size} must be a multiple of patch_size = {config.patch_size}"
        )
    if config.out_channels not in (None, config.in_channels, 2 * config.in_channels):
        raise PriorError(
            f"{path}: out_channels = {config.out_channels} must be in_channels = {config.in_channels}, or twice as many "
            "with a learned variance"
        )


def take_tables(model: Any) -> Tensor:
    """Take the tables of labels out of a DiT, which then wants their vectors (n, d) in place of labels.

    Returns:
        The table (rows, d), float32: one row a class, and the last for "no class". d is the width of the model if the tables of
        all blocks are equal, else the sum of their widths, block after block: each block then has a vector of its own.
    """
    embedders = [block.norm1.emb for block in model.transformer_blocks]
    tables = [embedder.class_embedder.embedding_table.weight.detach() for embedder in embedders]
    shared = all(torch.equal(tables[0], table) for table in tables[1:])
    width = tables[0].shape[1]
    for index, embedder in enumerate(embedders):
        embedder.class_embedder = GivenVectors(0 if shared else index * width, width)
    return tables[0].clone() if shared else torch.cat(tables, dim=1)


def facts_of_labels(folder: Path, facts: files.PriorFacts, rows: int) -> files.PriorFacts:
    """Complete the facts of a DiT with `rows` labels: names from `prior.json`, else from the index's `id2label`.

    Without both, 1,000 classes and the null class are ImageNet's, and the classes of any other number are numbered.

    Raises:
        PriorError: the names, or the null class, do not fit the table.
    """
    if not (folder / files.FACTS).exists():
        classes, null = class_names(rows, _labels(folder, rows - 1), str(folder / files.INDEX))
        return replace(facts, classes=classes, null_class=null)
    if (facts.classes and len(facts.classes) != rows - 1) or facts.null_class not in (None, rows - 1):
        raise PriorError(
            f"{folder / files.FACTS}: {len(facts.classes)} classes and null_class = {facts.null_class} do not fit the "
            f"transformer, which has {rows - 1} classes, and its null class is row {rows - 1}"
        )
    return facts


def _labels(folder: Path, count: int) -> tuple[files.PriorClass, ...] | None:
    """The classes in the index, as diffusers' DiTPipeline has them: number -> names between commas, the first one the usual."""
    path = folder / files.INDEX
    listed = files.read_json(path).get(_LABELS)
    if listed is None:
        return None
    wanted = list(map(str, range(count)))
    if not isinstance(listed, Mapping) or set(listed) != set(wanted) or not all(map(_is_name, listed.values())):
        raise PriorError(f"{path}: {_LABELS} must name the classes 0 to {count - 1} of the transformer, and no others")
    names = [[name.strip() for name in listed[key].split(",")] for key in wanted]
    imagenet = imagenet_classes()
    # These have WordNet ids, and names that differ where ImageNet has one twice (crane, maillot).
    if len(names) == len(imagenet) and sum(c.name in n for c, n in zip(imagenet, names, strict=True)) >= 0.8 * count:
        return imagenet
    return tuple(files.PriorClass(one_line(of_class[0])) for of_class in names)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.split(",")[0].strip())

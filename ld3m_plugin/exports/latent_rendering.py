"""Images from a file of latents: rendered as the run rendered them, and so the same to the bit on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import create
from ld3m_plugin.config import RunConfig, changed
from ld3m_plugin.contracts import Generator
from ld3m_plugin.devices.tf32 import tf32
from ld3m_plugin.distillation.first_latents import precision
from ld3m_plugin.distillation.loop import choose_device
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.errors import ArtefactError, DataError
from ld3m_plugin.exports.latent_file import LatentFile, images_sha256, read_latents
from ld3m_plugin.options import build
from ld3m_plugin.registry import blaming
from ld3m_plugin.runs.provenance import facts_of
from ld3m_plugin.task import ImagesByClass, Task

_DIGEST = "_sha256"


class _NoImages(ImagesByClass):
    """The real images where there are none: rendering needs facts of the data alone."""

    origin = "latents are rendered without real images"

    def __init__(self, classes: int) -> None:
        self._classes = classes

    def counts(self) -> tuple[int, ...]:
        return (0,) * self._classes

    def read(self, class_index: int, which: Tensor) -> Tensor:
        raise DataError(f"class {class_index} has no images here: {self.origin}")


def distilled_from_latents(
    path: Path | str, options: Mapping[str, Any] | None = None, device: str | None = None
) -> tuple[DistilledSet, bool | None]:
    """Render a file of `ld3m export --to latents`.

    Neither the data set nor the run is needed, but the generator's prior is.

    Args:
        options: options of the generator in place of the recorded ones, such as where the prior lies now.
        device: device to render on; default: the run's.

    Returns:
        The set, and whether its images equal those of the exported set to the bit; None where that is not known.

    Raises:
        ArtefactError: the file is damaged, or the prior is another one.
        UsageError: an unknown generator, option or device.
    """
    file = read_latents(Path(path))
    images = _rendered(file, dict(options or {}), device, Path(path))
    if len(images) != len(file.labels):
        raise ArtefactError(f"{path} has {len(file.labels)} labels, and its latents render to {len(images)} images")
    distilled = DistilledSet(images.cpu(), file.labels, file.metadata, file.latents)
    expected = file.images_sha256
    return distilled, None if expected is None else images_sha256(distilled.images) == expected


def _rendered(file: LatentFile, options: dict[str, Any], device: str | None, path: Path) -> Tensor:
    if "config" not in file.metadata:
        raise ArtefactError(f"{path} does not record the settings of its run, which say how it is rendered")
    config = build(RunConfig, file.metadata["config"], f"the settings in {path}")
    config = changed(config, "generator", options={**config.generator.options, **options})
    where = choose_device(device or config.device)
    name = config.generator.name
    generator: Generator = create("generator", name, config.generator.options)
    with blaming("generator", name, "prepare"):
        generator.prepare(_facts(file.metadata, where))
    _check_prior(generator, file.metadata.get("generator"), path)
    latents = file.latents.to(where).clone()  # at addresses as a run has them: sums differ in bits with the alignment
    with tf32(config.tf32, where), blaming("generator", name, "render"):
        return render(generator, latents, config.render_batch, precision(config, where))


def _facts(metadata: Mapping[str, Any], device: torch.device) -> Task:
    names = tuple(metadata["class_names"])
    try:
        data = dict(metadata.get("data") or {})
        return Task(
            name=str(data.get("name", "")),
            source=str(data.get("source", "")),
            class_names=names,
            wordnet_ids=tuple(metadata.get("wordnet_ids") or [None] * len(names)),
            mean=tuple(metadata["mean"]),
            std=tuple(metadata["std"]),
            image_size=int(metadata["image_size"]),
            train=_NoImages(len(names)),
            device=device,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"the metadata of the latents lacks facts of the data: {error}") from error


def _check_prior(generator: Generator, recorded: Any, path: Path) -> None:
    """Raise if a digest of the generator's files is not the recorded one."""
    old = recorded if isinstance(recorded, Mapping) else {}
    for name, digest in facts_of(generator).items():
        if name.endswith(_DIGEST) and old.get(name, digest) != digest:
            what = name.removesuffix(_DIGEST)
            raise ArtefactError(
                f"{path} was made with another {what} (SHA-256 {old[name]}, here {digest}): say with -G where the "
                "former one is"
            )

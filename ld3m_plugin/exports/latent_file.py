"""The learned numbers of a distilled set in one file, with what is needed to render them again.

A safetensors file: the latents as `latents/NAME`, the labels, and in its header the metadata of the set, which names the
generator, its options and the digest of its prior.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.reading import FORMAT, check_labels_alone, check_metadata
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError, one_line
from ld3m_plugin.storage import parse_json, read_tensors, write_tensors

_PREFIX = "latents/"


@dataclass(frozen=True)
class LatentFile:
    """The content of a file.

    Attributes:
        labels: (N,) or (N, K), of the images.
        metadata: of the set, without results of evaluations.
        images_sha256: digest of the images that the latents rendered to; None where halved latents render to others.
    """

    latents: Latents
    labels: Tensor
    metadata: dict[str, Any]
    images_sha256: str | None


def write_latents(distilled: DistilledSet, path: Path, *, half: bool = False) -> None:
    """Write the latents of a set.

    Args:
        half: keep all floating-point numbers, those of fixed noise as well, as float16. The images then differ slightly.

    Raises:
        ArtefactError: the set has no latents or is of whitened data, or some are beyond the range of float16.
    """
    if distilled.latents is None:
        raise ArtefactError("the set has no latents: it was not rendered from any, or they were not kept")
    if distilled.whitening is not None:
        raise ArtefactError(
            "latents of whitened data (zca=true) cannot be rendered without it: export the images, --to npz"
        )
    tensors = distilled.latents.tensors()
    if half:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    header = {
        "format": str(FORMAT),
        "learned": ",".join(sorted(distilled.latents.learned)),
        "metadata": json.dumps({name: fact for name, fact in distilled.metadata.items() if name != "results"}),
    }
    if not half:
        header["images_sha256"] = images_sha256(distilled.images)
    write_tensors(path, {"labels": distilled.labels, **{_PREFIX + name: t for name, t in tensors.items()}}, header)


def _halved(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.to(torch.float16)
    if not halved.isfinite().all():
        raise ArtefactError(f"latent {name!r} has values beyond the range of float16: export it without half")
    return halved


def read_latents(path: Path) -> LatentFile:
    """Read a file of `write_latents`; halved numbers come back as float32.

    Raises:
        ArtefactError: it is missing, damaged, of a later format, or something else.
    """
    tensors, header = read_tensors(path, ArtefactError)
    try:
        metadata = parse_json(header["metadata"])
        check_metadata({"format": int(header["format"]), **metadata}, f"the header of {path}")
        labels, names = tensors.pop("labels"), tuple(filter(None, header["learned"].split(",")))
        wide = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
        latents = Latents({name.removeprefix(_PREFIX): tensor for name, tensor in wide.items()}, names)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} holds no latents of `ld3m export --to latents`: {one_line(str(error))}") from error
    check_labels_alone(labels, len(metadata["class_names"]), path)
    return LatentFile(latents, labels, metadata, header.get("images_sha256"))


def images_sha256(images: Tensor) -> str:
    """SHA-256 of images (N, C, H, W), to the bit."""
    return hashlib.sha256(images.detach().cpu().contiguous().numpy().tobytes()).hexdigest()

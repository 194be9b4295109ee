"""States of trainings and runs: safetensors files with a digest, so that one flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ld3m_plugin.storage.bounded import Refusal, read_tensors
from ld3m_plugin.storage.complete import write_tensors

if TYPE_CHECKING:
    from torch import Tensor

_DIGEST = "sha256"


def write_sealed(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whose header has the SHA-256 of its tensors and of `metadata`."""
    write_tensors(path, tensors, {**metadata, _DIGEST: content_digest(tensors, metadata)})


def read_sealed(path: Path, error: Refusal) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors, on the CPU, and metadata; a file of version 0.1 has no digest and is read without.

    Raises:
        HostError: `error`, a message that names the file, which is missing, damaged, or differs from its digest.
    """
    tensors, metadata = read_tensors(path, error)
    expected = metadata.pop(_DIGEST, None)
    if expected is not None and content_digest(tensors, metadata) != expected:
        raise error(f"{path} is damaged: its content differs from its digest")
    return tensors, metadata


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 of names, dtypes, shapes and bytes of tensors, in the order of names, and of metadata."""
    import torch  # late: settings are read without it

    total = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

"""States of trainings and runs: safetensors files with a digest, so that one flipped bit is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ld3m_plugin.storage.bounded import Refusal, parse_json, read_tensors
from ld3m_plugin.storage.complete import write_tensors

if TYPE_CHECKING:
    from torch import Tensor

#: The one key of the header: JSON of the metadata and of the digest. The library writes several keys in any order, and the same
#: state would be other bytes each time.
_SEAL = "sealed"
_DIGEST = "sha256"


def write_sealed(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whose header has the SHA-256 of its tensors and of `metadata`."""
    seal = {**metadata, _DIGEST: content_digest(tensors, metadata)}
    write_tensors(path, tensors, {_SEAL: json.dumps(seal, sort_keys=True)})


def read_sealed(path: Path, error: Refusal) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors, on the CPU, and metadata; a file of version 0.1 has no digest and is read without.

    Raises:
        HostError: `error`, a message that names the file, which is missing, damaged, or differs from its digest.
    """
    tensors, metadata = read_tensors(path, error)
    if _SEAL not in metadata:
        return tensors, metadata
    try:
        seal = parse_json(metadata[_SEAL])
        sealed = {str(name): str(value) for name, value in seal.items()}
        whole = content_digest(tensors, {k: v for k, v in sealed.items() if k != _DIGEST}) == sealed.pop(_DIGEST)
    except (ValueError, AttributeError, KeyError) as problem:
        raise error(f"{path} is damaged: its header cannot be read") from problem
    if not whole:
        raise error(f"{path} is damaged: its content differs from its digest")
    return tensors, sealed


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 of names, dtypes, shapes and bytes of tensors, in the order of names, and of metadata."""
    import torch  # late: settings are read without it

    total = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

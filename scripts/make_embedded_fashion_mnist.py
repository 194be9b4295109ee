"""Make the embedded subset of Fashion-MNIST from the full set.

    python scripts/make_embedded_fashion_mnist.py /usr/share/datasets/fashion-mnist

All 10,000 test images stay, and PER_CLASS training images a class, in the order of the original. Which ones is decided
by SHA-256 of seed and position, not by a random generator whose stream may differ between library versions: the subset
is the same for ever. Compressed without a time stamp, so that a second run with the same zlib writes the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.fashion_mnist import EMBEDDED_FOLDER, FILES
from ld3m_plugin.data.idx import read_idx

PER_CLASS = 1200
SEED = 0
LIMIT_BYTES = 12_000_000


def chosen(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Sorted positions (K·per_class,) of the images that stay, from labels (n,)."""
    kept: list[int] = []
    for label in range(int(labels.max()) + 1):
        positions = torch.nonzero(labels == label).flatten().tolist()
        positions.sort(key=lambda position: hashlib.sha256(f"{seed}/{position}".encode()).digest())
        kept += positions[:per_class]
    return torch.tensor(sorted(kept))


def write_idx(path: Path, values: Tensor) -> None:
    """Write a uint8 tensor as gzip-compressed IDX."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(header + values.contiguous().numpy().tobytes())


def main() -> None:
    """Read the full set, write the subset, say how large it is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="folder with the four gzip-compressed IDX files of the full set")
    parser.add_argument("--out", type=Path, default=EMBEDDED_FOLDER)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split, (images_name, labels_name) in FILES.items():
        images = read_idx(arguments.source / f"{images_name}.gz", 3)
        labels = read_idx(arguments.source / f"{labels_name}.gz", 1)
        if split == "train":
            rows = chosen(labels, PER_CLASS, SEED)
            images, labels = images[rows], labels[rows]
        write_idx(arguments.out / f"{images_name}.gz", images)
        write_idx(arguments.out / f"{labels_name}.gz", labels)
        print(f"{split}: {len(images)} images, {labels.bincount().tolist()} a class")
    total = sum(path.stat().st_size for path in arguments.out.iterdir())
    print(f"{total:,} bytes in {arguments.out}")
    if total >= LIMIT_BYTES:
        raise SystemExit(f"larger than {LIMIT_BYTES:,} bytes: lower PER_CLASS")


if __name__ == "__main__":
    main()

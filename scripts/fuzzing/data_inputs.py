"""Images: IDX files, and folders of pictures."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from ld3m_plugin.data.load import load_task

_SPLITS = {"train": 20, "t10k": 10}


def make_idx(folder: Path) -> None:
    """Fashion-MNIST of 30 images, plain and compressed files."""
    (folder / "input").mkdir()
    rng = numpy.random.default_rng(0)
    for name, count in _SPLITS.items():
        images = struct.pack(">IIII", 0x803, count, 28, 28) + rng.bytes(count * 784)
        labels = struct.pack(">II", 0x801, count) + bytes(index % 10 for index in range(count))
        (folder / "input" / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (folder / "input" / f"{name}-labels-idx1-ubyte").write_bytes(labels)


def read_idx(path: Path) -> None:
    """Read it as a user's own copy."""
    task = load_task("fashion-mnist", root=str(path))
    task.train.read(0, torch.tensor([0]))


def make_pictures(folder: Path) -> None:
    """Three classes of four pictures, of the three usual endings."""
    rng = numpy.random.default_rng(0)
    for name in ("cat", "dog", "犬"):
        (folder / "input" / name).mkdir(parents=True)
        for number, ending in enumerate(("png", "jpg", "png", "bmp")):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(folder / "input" / name / f"{number}.{ending}")


def read_pictures(path: Path) -> None:
    """Read the folder with the size of its pictures."""
    _read_folder(path)


def read_some_pictures(path: Path) -> None:
    """Read it with a size and a kind that are asked for, without unreadable files."""
    _read_folder(path, image_size=8, grayscale=False, skip_unreadable=True)


def _read_folder(path: Path, **options: Any) -> None:
    task = load_task(f"imagefolder:{path}", **options)
    for index, count in enumerate(task.train.counts()):
        task.train.read(index, torch.arange(count))

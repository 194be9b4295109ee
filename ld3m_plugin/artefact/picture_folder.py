"""Pictures in a folder for each class, in the order of the tensor, as torchvision's `ImageFolder` and 🤗 Datasets read them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ld3m_plugin.artefact.pictures import save_png
from ld3m_plugin.errors import visible
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.storage import write_text

#: Labels of the pictures, one JSON object a line, under the name that 🤗 Datasets looks for.
LISTING = "metadata.jsonl"

# File systems limit a name to 255 bytes, which must include the index; 80 characters may take 320.
_SLUG_CHARACTERS, _SLUG_BYTES = 80, 240


def class_folders(class_names: Sequence[str]) -> list[str]:
    """Folder names of the classes; their alphabetical order is the label order.

    >>> class_folders(["T-shirt/top", "犬"])
    ['0_T-shirt-top', '1_犬']
    """
    width = len(str(len(class_names) - 1))
    return [f"{index:0{width}d}_{_slug(name)}".rstrip("_") for index, name in enumerate(class_names)]


def label_names(class_names: Sequence[str]) -> list[str]:
    """Names of the labels for other formats: the class names, with control characters visible, or those of the folders.

    >>> label_names(["a", "b"]), label_names(["a", "a"])  # these formats need each name once
    (['a', 'b'], ['0_a', '1_a'])
    """
    names = [visible(name) for name in class_names]
    return names if len(set(names)) == len(names) else class_folders(class_names)


def picture_paths(labels: Tensor, class_names: Sequence[str]) -> list[str]:
    """The path of each picture below its folder: `CLASS/NUMBER.png`, numbers of equal length counted within the class.

    Args:
        labels: class indices (N,).
    """
    folders, sizes, taken = class_folders(class_names), Counter(labels.tolist()), Counter[int]()
    paths = []
    for label in labels.tolist():
        width = len(str(sizes[label] - 1))  # sorted by name, the files of a class are in the order of the tensor
        paths.append(f"{folders[label]}/{taken[label]:0{width}d}.png")
        taken[label] += 1
    return paths


def save_pictures(pictures: Tensor, labels: Tensor, class_names: Sequence[str], folder: Path) -> None:
    """Write pictures (N, C, H, W) in [0, 1] into a folder for each class, and a list of them with their labels.

    A class without a picture gets an empty folder, so that folders and labels stay in step.

    Args:
        labels: class indices (N,) or probabilities (N, K); the folder is that of the likeliest class.
    """
    for name in class_folders(class_names):
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = picture_paths(hard_labels(labels), class_names)
    for picture, path in zip(pictures, paths, strict=True):
        save_png(picture, folder / path)
    records = [
        {"file_name": path, "label": hard} for path, hard in zip(paths, hard_labels(labels).tolist(), strict=True)
    ]
    if labels.ndim == 2:
        records = [{**record, "probabilities": row} for record, row in zip(records, labels.tolist(), strict=True)]
    write_text(folder / LISTING, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _slug(name: str) -> str:
    """The letters and digits of any script in `name`, other characters as hyphens, short enough for a file name."""
    # Composed first: a combining accent is no word character.
    words = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", name)).strip("-")
    return words[:_SLUG_CHARACTERS].encode()[:_SLUG_BYTES].decode(errors="ignore").rstrip("-")

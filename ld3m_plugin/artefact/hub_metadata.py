"""The head of a card: what 🤗 Datasets and model hubs read, so that `datasets.load_dataset(FOLDER)` gives images and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ld3m_plugin.artefact.picture_folder import label_names

_TAGS = ("dataset-distillation", "ld3m-plugin")


def front_matter(class_names: Sequence[str], files: str, *, soft: bool = False) -> str:
    """The YAML between two lines `---` at the beginning of a card.

    Args:
        class_names: K names, in label order.
        files: pattern of the data files below the card's folder.
        soft: whether each image has probabilities (K,) beside its label.
    """
    content = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": files}],
                # Given here as well: builders of folders read it, and not that of `dataset_info`.
                "features": _features(class_names, soft),
            }
        ],
        "dataset_info": {"features": _features(class_names, soft)},
        "tags": list(_TAGS),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
    return f"---\n{text}---"


def _features(class_names: Sequence[str], soft: bool) -> list[dict[str, Any]]:
    names = {str(index): name for index, name in enumerate(label_names(class_names))}
    features: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": names}}},
    ]
    return [*features, {"name": "probabilities", "sequence": "float32"}] if soft else features

"""Parquet with pictures, named labels and a card: what `datasets.load_dataset` and model hubs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ld3m_plugin.artefact.card import CardOf, dataset_card
from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.picture_folder import label_names
from ld3m_plugin.artefact.pictures import png
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.storage import needed, write_text

_FILE = "data/train-00000-of-00001.parquet"

_PARQUET = CardOf(
    "data/train-*.parquet",
    """```python
import datasets

pictures = datasets.load_dataset("path/to/this/folder", split="train")  # 8 bits, with named labels
```""",
    "The pictures are clipped to 8 bits. To train as for the accuracies below, scale them to [0, 1] and normalise them with mean "
    "{mean} and std {std} per channel.",
)


def write_parquet(distilled: DistilledSet, folder: Path) -> None:
    """Write one Parquet file, its rows in the order of the tensor, and the card.

    Raises:
        UsageError: the extra `hf` is not installed.
    """
    datasets, parquet = (needed(name, "hf", "the format hf") for name in ("datasets", "pyarrow.parquet"))
    pyarrow = needed("pyarrow", "hf", "the format hf")
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": png(picture), "path": None} for picture in distilled.denormalised()],
        "label": hard_labels(distilled.labels).tolist(),
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=label_names(distilled.class_names))}
    soft = distilled.labels.ndim == 2
    if soft:
        columns["probabilities"] = distilled.labels.tolist()
        features["probabilities"] = datasets.Sequence(datasets.Value("float32"))
    path = folder / _FILE
    path.parent.mkdir()
    parquet.write_table(pyarrow.table(columns, schema=datasets.Features(features).arrow_schema), str(path))
    write_text(folder / "README.md", dataset_card(distilled.metadata, soft=soft, of=_PARQUET))

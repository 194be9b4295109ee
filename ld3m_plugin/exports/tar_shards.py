"""Tar files in the layout of WebDataset: the files of an image follow each other and share their name up to the first dot."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.pictures import png
from ld3m_plugin.exports.plain_tensors import write_facts
from ld3m_plugin.images.hard_labels import hard_labels

#: Images in a shard, unless another number is asked for.
PER_SHARD = 1000


def write_shards(distilled: DistilledSet, folder: Path, per_shard: int = PER_SHARD) -> None:
    """Write `set-000000.tar`, `set-000001.tar` and so on, images in the order of the tensor, and `classes.json`.

    An image has `.png`, its class index `.cls`, and `.json` with the index and name of the class, and the probabilities
    where labels are soft. Shards of equal content are equal to the bit.
    """
    count, pictures = len(distilled), distilled.denormalised()
    for shard, start in enumerate(range(0, count, per_shard)):
        with tarfile.open(folder / f"set-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for index in range(start, min(start + per_shard, count)):
                _add_image(archive, distilled, index, png(pictures[index]))
    write_facts(distilled, folder)


def _add_image(archive: tarfile.TarFile, distilled: DistilledSet, index: int, picture: bytes) -> None:
    label = int(hard_labels(distilled.labels[index : index + 1]))
    record: dict[str, Any] = {"label": label, "class_name": distilled.class_names[label]}
    if distilled.labels.ndim == 2:
        record["probabilities"] = distilled.labels[index].tolist()
    for suffix, content in (("png", picture), ("cls", str(label).encode()), ("json", json.dumps(record).encode())):
        entry = tarfile.TarInfo(f"{index:06d}.{suffix}")  # its time and owner are zero
        entry.size, entry.mode = len(content), 0o644
        archive.addfile(entry, io.BytesIO(content))

"""The ten ImageNet subsets of the GLaD and LD3M papers, by WordNet id, in the order of their labels.

The published code lists positions in the sorted list of the 1,000 ImageNet classes (GLaD `utils.py`, class `Config`).
A position means another class as soon as a folder is missing, so `embedded/imagenet-subsets.json` lists ids. The ids are
those on which two lists of the ILSVRC-2012 classes agree (Keras' `imagenet_class_index.json` and Kaggle's
`LOC_synset_mapping.txt`); the names were compared with torchvision's categories at these positions.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_TABLE = Path(__file__).parent / "embedded" / "imagenet-subsets.json"

#: subset -> ((WordNet id, name), ...), label 0 first.
SUBSETS: dict[str, tuple[tuple[str, str], ...]] = {
    subset: tuple(classes.items()) for subset, classes in json.loads(_TABLE.read_text(encoding="utf-8")).items()
}

#: Other common names of the subsets.
ALIASES = {
    "imagenette": "nette",
    "imagewoof": "woof",
    "imagesquawk": "birds",
    "squawk": "birds",
    "imagefruit": "fruits",
    "fruit": "fruits",
    "imagemeow": "cats",
    "meow": "cats",
}


def subset_hash(name: str) -> str:
    """Eight hexadecimal digits of a hash of a subset's ids in label order: equal hashes mean equal labels."""
    ids = ",".join(wordnet_id for wordnet_id, _ in SUBSETS[name])
    return hashlib.sha256(ids.encode()).hexdigest()[:8]

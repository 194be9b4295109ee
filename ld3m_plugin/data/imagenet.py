"""`imagenet:SUBSET`: ten classes of an ImageNet folder, found by WordNet id.

The layout is the usual one, `ROOT/train/nXXXXXXXX/*.JPEG` and `ROOT/val/nXXXXXXXX/*.JPEG`. Only the folders of the
subset are read, so neither their order nor other folders matter. Images are RGB or grey, channels first.
"""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from ld3m_plugin.data.decode import Form
from ld3m_plugin.data.files import Classes, open_splits, readable
from ld3m_plugin.data.imagefolder import class_files
from ld3m_plugin.data.imagenet_subsets import ALIASES, SUBSETS, subset_hash
from ld3m_plugin.data.picture_listing import LeftOut, check_folder, expanded, list_images
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError, nearest
from ld3m_plugin.options import takes
from ld3m_plugin.task import FileOptions, Task

#: Of ImageNet at 224 pixels; all published results on the subsets normalise with these.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_SIZE = 128
ROOT_VARIABLE = "IMAGENET_ROOT"


@takes(FileOptions)
def load(argument: str, options: FileOptions) -> Task:
    """Read one of the ten subsets; labels are in the papers' order, class names are words.

    Args:
        argument: a, b, c, d, e, nette, woof, birds, fruits or cats, in upper or lower case.
        options: `root` holds train/ and val/; default: the environment variable IMAGENET_ROOT. Images are 128x128 RGB by
            default.

    Raises:
        DataError: the root, a split or a class folder is missing or empty, or a file cannot be read.
        InvalidOptionError: the subset is unknown.
    """
    subset = _subset(argument)
    root = _root(options)
    form = Form(options.image_size or DEFAULT_SIZE, 1 if options.grayscale else 3)
    left_out = LeftOut()
    decoded: dict[Path, Tensor] = {}
    splits: list[tuple[Classes, Path]] = []
    for folder in (root / "train", root / "val"):
        classes: Classes = _find(folder, subset, left_out)
        if options.skip_unreadable:
            classes, images = readable(classes, form, left_out)
            decoded |= images
        splits.append((classes, folder))
    opened = open_splits(splits, form, left_out, decoded)
    mean, std = channel_statistics(opened.train) if options.grayscale else (MEAN, STD)
    ids, names = zip(*SUBSETS[subset], strict=True)
    return Task(
        name=f"imagenet:{argument}",
        source=f"imagenet:{subset} (labels {subset_hash(subset)}) from {root}: {opened.counts}",
        class_names=names,
        wordnet_ids=ids,
        mean=mean,
        std=std,
        image_size=form.size,
        train=opened.train,
        test_images=opened.test,
        notes=opened.notes,
    )


def _subset(argument: str) -> str:
    name = argument.lower()
    name = ALIASES.get(name, name)
    if name not in SUBSETS:
        wanted = f"no subset {argument!r}" if argument else "give a subset, imagenet:SUBSET"
        raise InvalidOptionError(f"imagenet: {wanted}; {nearest(name, SUBSETS)}")
    return name


def _root(options: FileOptions) -> Path:
    value = options.root or os.environ.get(ROOT_VARIABLE)
    advice = f"give root=PATH or set {ROOT_VARIABLE}"
    if not value:
        raise DataError(f"no ImageNet folder (train/ and val/): {advice}")
    root = expanded(Path(value))
    check_folder(root, advice)
    return root


def _find(folder: Path, subset: str, left_out: LeftOut) -> Classes:
    """Class name -> files, in label order, of a split."""
    if not folder.is_dir():
        raise DataError(
            f"{folder.parent} has no {folder.name}/: give a folder with train/ and val/, each with one folder per WordNet id"
        )
    absent = [f"{name} ({wordnet_id})" for wordnet_id, name in SUBSETS[subset] if not (folder / wordnet_id).is_dir()]
    if len(absent) == len(SUBSETS[subset]) and not any(entry.is_dir() for entry in folder.iterdir()):
        loose = "image files but no class folders" if list_images(folder) else "no class folders"
        raise DataError(f"{folder} has {loose}: sort the images into one folder per WordNet id, as in train/")
    if absent:
        raise DataError(f"{folder} lacks class folders of imagenet:{subset}: {', '.join(absent)}; add them")
    return {name: class_files(folder / wordnet_id, left_out) for wordnet_id, name in SUBSETS[subset]}

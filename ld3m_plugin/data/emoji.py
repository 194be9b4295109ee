"""Emoji drawings in six free styles: colour pictures on white, 64x64, classes by what they show, split by drawing.

Part of this package; docs/benchmark.md describes it, `embedded/emoji/NOTICE` names authors and licences.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.data.emoji_index import (
    DRAWINGS_FILE,
    EMBEDDED_FOLDER,
    VALIDATION,
    Picture,
    broader,
    classes,
    pictures,
)
from ld3m_plugin.data.emoji_options import EmojiOptions
from ld3m_plugin.data.emoji_sheets import read_tiles
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.data.transforms import with_channels
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.options import takes
from ld3m_plugin.task import Task

#: Of the 64x64 pictures of `task=all` that priors are trained on; every task and size is normalised with these.
MEAN, STD = (0.8297, 0.7871, 0.7423), (0.2784, 0.2649, 0.3241)

#: Split -> parts of the data that are trained on, and the part that is tested on.
_PARTS = {
    "test": (("train", VALIDATION), "test"),
    "validation": (("train",), VALIDATION),
    "equal-data": (("train",), "test"),
}


@takes(EmojiOptions)
def load(argument: str, options: EmojiOptions) -> Task:
    """Read a task of emoji drawings.

    Pictures of a class are ordered by drawing, then by style. `Task.test_groups` are groups of near variants in all styles, so
    that intervals resample drawings, not pictures. With `grayscale`, mean and standard deviation are computed from the images.

    Args:
        argument: must be empty.

    Raises:
        InvalidOptionError: an argument is given, or the pictures are smaller than `size`.
        DataError: `root` lacks a file, or a file is damaged or of another version.
    """
    if argument:
        raise InvalidOptionError(f"emoji:{argument}: emoji takes no argument; give the classes as task=NAME")
    trained, tested = _PARTS[options.split]
    chosen = [
        {
            name: [each for each in members if each.drawing.part in parts]
            for name, members in classes(options.task).items()
        }
        for parts in (trained, (tested,))
    ]
    train, test = _read(chosen, options)
    mean, std = channel_statistics(train) if options.grayscale else (MEAN, STD)
    return Task(
        name="emoji",
        source=_described(chosen, options),
        class_names=tuple(chosen[0]),
        wordnet_ids=(None,) * len(chosen[0]),
        mean=mean,
        std=std,
        image_size=options.size,
        train=train,
        test_images=test,
        **_held_out(chosen[0]),
        broader=broader(options.task),
        test_groups=tuple(each.drawing.group for members in chosen[1].values() for each in members),
    )


def _held_out(trained: dict[str, list[Picture]]) -> dict[str, Any]:
    """Facts of the validation pictures among those that are trained on; a split without them holds nothing out.

    Other pictures are no substitute: each drawing is there in several styles, and priors were trained on it.
    """
    numbered = [list(enumerate(members)) for members in trained.values()]
    held_out = [[(n, each) for n, each in members if each.drawing.part == VALIDATION] for members in numbered]
    return {
        "held_out": tuple(tuple(n for n, _ in members) for members in held_out),
        "held_out_groups": tuple(each.drawing.group for members in held_out for _, each in members),
    }


def _read(chosen: list[dict[str, list[Picture]]], options: EmojiOptions) -> list[InMemoryImages]:
    """Images of both splits; each sheet is read once."""
    folder = EMBEDDED_FOLDER if options.root is None else _checked(options.root)
    every = [each for split in chosen for members in split.values() for each in members]
    images = torch.empty(len(every), 3, options.size, options.size, dtype=torch.uint8)
    for style in dict.fromkeys(each.style for each in every):
        rows = [row for row, each in enumerate(every) if each.style == style]
        count = sum(each.style == style for each in pictures())
        images[rows] = read_tiles(folder / f"{style}.webp", count, [every[row].tile for row in rows], options.size)
    parts: list[Tensor] = list(
        with_channels(images, 1 if options.grayscale else 3).split(
            [len(members) for split in chosen for members in split.values()]
        )
    )
    half = len(chosen[0])
    return [InMemoryImages([part.clone() for part in side], str(folder)) for side in (parts[:half], parts[half:])]


def _checked(root: Path) -> Path:
    """`root`, if it is of this version of the data set."""
    table = root / DRAWINGS_FILE
    if not table.is_file():
        raise DataError(
            f"{table} is missing: make the folder with scripts/make_embedded_emoji.py --size 128 --out {root}"
        )
    if table.read_bytes() != (EMBEDDED_FOLDER / DRAWINGS_FILE).read_bytes():
        raise DataError(f"{table} is of another version of the data: make it again with scripts/make_embedded_emoji.py")
    return root


def _described(chosen: list[dict[str, list[Picture]]], options: EmojiOptions) -> str:
    """`Task.source`: the task, and how many pictures and drawings each side has."""
    counts = []
    for name, split in zip(("train", "test"), chosen, strict=True):
        every = [each for members in split.values() for each in members]
        counts.append(f"{len(every)} {name} of {len({each.drawing.code for each in every})} drawings")
    where = "embedded" if options.root is None else f"from {options.root}"
    return f"emoji {options.task} {where}, {options.size} pixels, split {options.split} ({', '.join(counts)})"

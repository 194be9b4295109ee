"""Which drawings the data set `emoji` has: their code points, category, group, part of the split, and styles; the tasks.

The tables beside the pictures are made by `scripts/make_embedded_emoji.py`, which says how they come about.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "emoji"
DRAWINGS_FILE = "drawings.json"
_TASKS = json.loads((EMBEDDED_FOLDER / "tasks.json").read_text(encoding="utf-8"))

#: Drawings of the training split on which settings are chosen have this part; no prior is trained on them.
VALIDATION = "validation"
#: The task of all categories, which priors are trained on.
ALL = "all"
TASKS: tuple[str, ...] = (*_TASKS, ALL)


@dataclass(frozen=True)
class Drawing:
    """An emoji, which is one picture in each style that has it.

    Attributes:
        code: Unicode code points without skin tone, gender and variation selectors, joined by -.
        label: English name.
        category: class of `task=all`.
        group: a number that near variants share; they are in one part.
        part: "train", "validation" or "test".
        styles: names of the styles that have it.
    """

    code: str
    label: str
    category: str
    group: int
    part: str
    styles: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """One picture: a drawing in a style, and which tile of the style's sheet it is."""

    drawing: Drawing
    style: str
    tile: int


@lru_cache(maxsize=1)
def drawings() -> tuple[Drawing, ...]:
    """Every drawing of the data set, in the order of the sheets' tiles."""
    rows = json.loads((EMBEDDED_FOLDER / DRAWINGS_FILE).read_text(encoding="utf-8"))
    return tuple(Drawing(**{**row, "styles": tuple(row["styles"].split())}) for row in rows)


@lru_cache(maxsize=1)
def pictures() -> tuple[Picture, ...]:
    """Every picture, drawing by drawing."""
    tiles: dict[str, int] = {}
    found = []
    for drawing in drawings():
        for style in drawing.styles:
            tile = tiles[style] = tiles.get(style, -1) + 1
            found.append(Picture(drawing, style, tile))
    return tuple(found)


def classes(task: str) -> dict[str, list[Picture]]:
    """Class name -> its pictures in every part, of one of `TASKS`; the classes of `all` are the categories."""
    if task == ALL:
        members = {name: [each.code for each in drawings() if each.category == name] for name in categories()}
    else:
        members = _TASKS[task]
    by_code: dict[str, list[Picture]] = {}
    for each in pictures():
        by_code.setdefault(each.drawing.code, []).append(each)
    return {name: [each for code in codes for each in by_code[code]] for name, codes in members.items()}


def categories() -> tuple[str, ...]:
    """Names of the categories, sorted."""
    return tuple(sorted({drawing.category for drawing in drawings()}))


def class_map(task: str) -> Path:
    """The file that maps the classes of a task to the categories, for a prior that was trained on `task=all`.

    A class of several categories is mapped to the one of its name, else to the one with the most drawings in it.
    """
    return EMBEDDED_FOLDER / "class-maps" / f"{task}.json"


def broader(task: str) -> tuple[str | None, ...]:
    """The category of each class of a task, as `class_map` has them; None for the classes of `all`."""
    if task == ALL:
        return (None,) * len(categories())
    chosen = json.loads(class_map(task).read_text(encoding="utf-8"))
    return tuple(chosen[name] for name in _TASKS[task])

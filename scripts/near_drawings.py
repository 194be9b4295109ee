"""Print pairs of drawings of the data set `emoji` that look alike and are not one group.

    python scripts/near_drawings.py --above 0.93

Likeness is one minus the squared difference over the squared ink (one minus the pixel) of both, at 16 pixels a side, the mean
over the styles that have both drawings. Pairs of two faces are counted, all others are listed with their parts of the split and
the tasks that have both.
"""

from __future__ import annotations

import argparse
from itertools import chain

import torch
from torch import Tensor

from ld3m_plugin.data.emoji_index import ALL, EMBEDDED_FOLDER, TASKS, Drawing, classes, drawings, pictures
from ld3m_plugin.data.emoji_sheets import read_tiles

FACES = ("faces", "costume-faces")


def likeness(ink: Tensor) -> Tensor:
    """Likeness of each two pictures, from their ink (pictures, values); shape (pictures, pictures)."""
    squares = ink.square().sum(1)
    both = squares[:, None] + squares
    return 1 - (both - 2 * ink @ ink.T) / both


def mean_likeness(side: int) -> Tensor:
    """Mean over styles, (drawings, drawings); NaN where no style has both."""
    place = {each.code: row for row, each in enumerate(drawings())}
    total, styles = torch.zeros(2, len(place), len(place), dtype=torch.float64)
    for style in sorted({each.style for each in pictures()}):
        own = [each for each in pictures() if each.style == style]
        rows = torch.tensor([place[each.drawing.code] for each in own])
        tiles = read_tiles(EMBEDDED_FOLDER / f"{style}.webp", len(own), [each.tile for each in own], side)
        total[rows[:, None], rows] += likeness(1 - tiles.double().flatten(1) / 255)
        styles[rows[:, None], rows] += 1
    return total / styles


def shared_tasks() -> dict[str, set[str]]:
    """Code points -> the tasks, other than `all`, that have the drawing."""
    found: dict[str, set[str]] = {each.code: set() for each in drawings()}
    for task in (name for name in TASKS if name != ALL):
        for each in chain.from_iterable(classes(task).values()):
            found[each.drawing.code].add(task)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--above", type=float, default=0.93)
    parser.add_argument("--side", type=int, default=16, choices=(4, 8, 16, 32, 64), help="pixels a side [16]")
    given = parser.parse_args()
    every, alike, tasks = drawings(), mean_likeness(given.side), shared_tasks()
    pairs: list[tuple[float, Drawing, Drawing]] = [
        (alike[i, j].item(), every[i], every[j])
        for i, j in (alike.triu(1) > given.above).nonzero().tolist()
        if every[i].group != every[j].group
    ]
    others = [pair for pair in pairs if not all(each.category in FACES for each in pair[1:])]
    print(f"{len(pairs)} pairs above {given.above:g}, {len(pairs) - len(others)} of two faces; the others:")
    for value, one, other in sorted(others, key=lambda pair: -pair[0]):
        both = ", ".join(sorted(tasks[one.code] & tasks[other.code])) or "no task"
        print(f"{value:.3f}  {one.label} ({one.part}), {other.label} ({other.part}): {both}")


if __name__ == "__main__":
    main()

"""Make the data set `emoji` from the packages that the drawings come from.

    python scripts/make_embedded_emoji.py --packages FOLDER                        the 64x64 pictures of this package
    python scripts/make_embedded_emoji.py --packages FOLDER --size 128 --out OUT   larger ones, for --data emoji root=OUT

FOLDER holds the archives of the npm packages that `embedded_emoji/emoji_packages.py` lists; those that are missing are fetched
with npm. Needs npm for that, and resvg_py 0.5.0 and Pillow 13.0.0 (libwebp 1.6.0) for the same bytes; other versions may
give other files, whose pictures the tests then compare by their digest.

Writes drawings.json (every drawing), tasks.json (task, class, drawings), class-maps/TASK.json (class, category), a sheet of
square tiles STYLE.webp for each style (lossless), and NOTICE.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from embedded_emoji.emoji_categories import category_of
from embedded_emoji.emoji_groups import base, groups
from embedded_emoji.emoji_notice import notice
from embedded_emoji.emoji_packages import Style, read_labels, read_styles
from embedded_emoji.emoji_raster import DRAWN, draw
from embedded_emoji.emoji_split import Drawing, class_maps, rank, split, task_classes

from ld3m_plugin.data.emoji_sheets import tiles_a_side

OUT = Path(__file__).parents[1] / "ld3m_plugin" / "data" / "embedded" / "emoji"
LIMIT_BYTES = 14_000_000


def read_drawings(folder: Path) -> tuple[list[Drawing], dict[str, list[str]]]:
    """Every drawing in the order of the categories, and its emoji: neutral first, then those of a gender, at random."""
    found = {code: (label, category_of(label, subgroup)) for code, label, subgroup in read_labels(folder)}
    labels = {code: label for code, (label, category) in found.items() if category is not None}
    emoji: dict[str, list[str]] = {}
    for code in labels:
        emoji.setdefault(base(code), []).append(code)
    for drawing, codes in emoji.items():
        codes.sort(key=lambda code: (code != drawing, rank(code)))
    group = groups(labels)
    drawings = [Drawing(code, labels[codes[0]], found[codes[0]][1] or "", group[code]) for code, codes in emoji.items()]
    return sorted(drawings, key=lambda each: each.category), emoji


def table(
    drawings: Sequence[Drawing], part: Mapping[str, str], found: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Rows of drawings.json; groups are numbered in order."""
    numbers: dict[str, int] = {}
    return [
        {
            "code": each.code,
            "label": each.label,
            "category": each.category,
            "group": numbers.setdefault(each.group, len(numbers)),
            "part": part[each.code],
            "styles": " ".join(found[each.code]),
        }
        for each in drawings
    ]


def svgs(style: Style, drawings: Sequence[Drawing], emoji: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Drawing -> SVG of the first of its emoji that the style has."""
    every = ((each.code, [style.svg(code) for code in emoji[each.code]]) for each in drawings)
    return {code: next(filter(None, found)) for code, found in every if any(found)}


def write_sheet(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """Write pictures (s, s, 3) as the square tiles of a sheet, the last ones white; see `emoji_sheets.py`."""
    side, size = tiles_a_side(len(pictures)), pictures[0].shape[0]
    tiles = np.full((side * side, size, size, 3), 255, np.uint8)
    tiles[: len(pictures)] = pictures
    sheet = tiles.reshape(side, side, size, size, 3).swapaxes(1, 2).reshape(side * size, side * size, 3)
    Image.fromarray(sheet).save(path, "WEBP", lossless=True, quality=80, method=4)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with an element of the outermost list or mapping in a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        lines = [json.dumps(item, ensure_ascii=False) for item in content]
    else:
        lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    first, last = "[]" if isinstance(content, list) else "{}"
    path.write_text(f"{first}\n" + ",\n".join(lines) + f"\n{last}\n", encoding="utf-8")


def main() -> None:
    """Draw, split, write, say how large it is."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--packages", type=Path, default=Path("emoji-packages"), help="folder of the archives")
    parser.add_argument("--size", type=int, default=64, choices=[64, 128, DRAWN], help="height and width of a picture")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.size != 64 and arguments.out == OUT:
        parser.error("the package has pictures of 64 pixels: give --out FOLDER")
    styles = read_styles(arguments.packages)
    drawings, emoji = read_drawings(arguments.packages)
    found = {style.name: svgs(style, drawings, emoji) for style in styles}
    drawings = [each for each in drawings if any(each.code in have for have in found.values())]
    tasks = task_classes(drawings)
    rows = table(
        drawings,
        split(drawings, tasks["main"]),
        {each.code: [name for name, have in found.items() if each.code in have] for each in drawings},
    )
    write_json(arguments.out / "drawings.json", rows)
    write_json(arguments.out / "tasks.json", tasks)
    for task, classes in class_maps(drawings, tasks).items():
        write_json(arguments.out / "class-maps" / f"{task}.json", classes)
    (arguments.out / "NOTICE").write_text(notice(styles), encoding="utf-8")
    with ProcessPoolExecutor() as pool:
        for name, have in found.items():
            pictures = list(pool.map(draw, [(svg, arguments.size) for svg in have.values()], chunksize=32))
            write_sheet(arguments.out / f"{name}.webp", pictures)
            print(f"{name}: {len(pictures)} pictures, {(arguments.out / f'{name}.webp').stat().st_size:,} bytes")
    total = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{len(drawings)} drawings, {sum(map(len, found.values()))} pictures, {total:,} bytes in {arguments.out}")
    if arguments.size == 64 and total >= LIMIT_BYTES:
        raise SystemExit(f"larger than {LIMIT_BYTES:,} bytes: leave drawings out")


if __name__ == "__main__":
    main()

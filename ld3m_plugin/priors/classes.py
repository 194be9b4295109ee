"""Names of the classes that the rows of a class embedding stand for."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter

from ld3m_plugin.errors import PriorError
from ld3m_plugin.priors.prior_json import PriorClass, read_file

_LISTED = TypeAdapter(list[str | PriorClass])
_WORDNET = re.compile(r"(n\d{8})\s+(.+)")


def imagenet_classes() -> tuple[PriorClass, ...]:
    """List the 1,000 classes of ILSVRC-2012 in label order, which is the order of their WordNet ids."""
    text = resources.files("ld3m_plugin.priors").joinpath("imagenet1k.txt").read_bytes()
    return _parse_lines(text)


def read_classes(path: Path) -> tuple[PriorClass, ...]:
    """Read class names from a text file, one a line, or from a JSON list.

    A line is a name, with its WordNet id before it if it has one. In JSON, a class is such a line, or
    {"name": ..., "wordnet_id": ...}.

    Raises:
        PriorError: the file cannot be read or holds something else.
    """
    parse = _parse_list if path.suffix == ".json" else _parse_lines
    return read_file(path, parse, "is not a readable list of class names", "write one name a line")


def class_names(
    rows: int, listed: tuple[PriorClass, ...] | None, owner: str
) -> tuple[tuple[PriorClass, ...], int | None]:
    """Name the `rows` rows of a class embedding.

    The published models keep the last row for "no class"; a list that names every row has no such row. Without a list,
    1,001 rows are ImageNet's, and the classes of any other number of rows are numbered.

    Args:
        owner: file of the list, for the message.

    Returns:
        The classes, and the row that stands for "no class", or None.

    Raises:
        PriorError: the list names neither all rows nor all but the last.
    """
    if listed is None:
        listed = imagenet_classes() if rows == 1001 else tuple(PriorClass(f"class {row}") for row in range(rows - 1))
    if len(listed) not in (rows - 1, rows):
        raise PriorError(
            f"{owner} names {len(listed)} classes, but the class embedding has {rows} rows: "
            f"name {rows - 1} (the last row is the null class) or {rows} (there is none)"
        )
    return listed, rows - 1 if len(listed) == rows - 1 else None


def _parse_list(content: bytes) -> tuple[PriorClass, ...]:
    listed = _LISTED.validate_json(content, strict=True)
    return tuple(_line(item) if isinstance(item, str) else item for item in listed)


def _parse_lines(content: bytes) -> tuple[PriorClass, ...]:
    return tuple(_line(line) for line in content.decode().splitlines() if line.strip())


def _line(line: str) -> PriorClass:
    match = _WORDNET.fullmatch(line.strip())
    return PriorClass(match[2], match[1]) if match else PriorClass(line.strip())

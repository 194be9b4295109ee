"""What the rows of a class embedding are called."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import PriorError
from ld3m_plugin.priors.prior_json import PriorClass

_WORDNET = re.compile(r"(n\d{8})\s+(.+)")


def imagenet_classes() -> tuple[PriorClass, ...]:
    """The 1,000 classes of ILSVRC-2012 in the order of their labels, which is that of their WordNet ids."""
    text = resources.files("ld3m_plugin.priors").joinpath("imagenet1k.txt").read_text(encoding="utf-8")
    return tuple(_line(line) for line in text.splitlines())


def read_classes(path: Path) -> tuple[PriorClass, ...]:
    """Names from a text file (one a line, a WordNet id before it if there is one) or from a JSON list.

    In JSON a class is a text like a line, or {"name": ..., "wordnet_id": ...}.

    Raises:
        PriorError: the file cannot be read or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            listed = json.loads(text)
            if not isinstance(listed, list):
                raise TypeError("not a list")
            return tuple(_item(item) for item in listed)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PriorError(f"{path} is not a readable list of class names ({error!r}): one name a line") from error
    return tuple(_line(line) for line in text.splitlines() if line.strip())


def class_names(
    rows: int, listed: tuple[PriorClass, ...] | None, owner: str
) -> tuple[tuple[PriorClass, ...], int | None]:
    """The classes of an embedding of so many rows, and the row that stands for no class.

    The published models keep the last row for "no class"; a list that names every row says that this one does not.
    Without a list, 1,001 rows are ImageNet's and others are numbered.

    Args:
        owner: of the list, for the message.

    Raises:
        PriorError: the list has another length.
    """
    if listed is None:
        listed = imagenet_classes() if rows == 1001 else tuple(PriorClass(f"class {row}") for row in range(rows - 1))
    if len(listed) not in (rows - 1, rows):
        raise PriorError(
            f"{owner} names {len(listed)} classes, but the class embedding has {rows} rows: "
            f"name {rows - 1} (the last row is the null class) or {rows} (there is none)"
        )
    return listed, rows - 1 if len(listed) == rows - 1 else None


def _line(line: str) -> PriorClass:
    match = _WORDNET.fullmatch(line.strip())
    return PriorClass(match[2], match[1]) if match else PriorClass(line.strip())


def _item(item: Any) -> PriorClass:
    if isinstance(item, str):
        return _line(item)
    wordnet = item.get("wordnet_id")
    if wordnet is not None and not isinstance(wordnet, str):
        raise TypeError(f"wordnet_id {wordnet!r} is not text")
    return PriorClass(str(item["name"]), wordnet)

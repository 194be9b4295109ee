"""Names of the classes that the rows of a class embedding stand for."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ld3m_plugin.errors import PriorError, one_line
from ld3m_plugin.priors.prior_json import PriorClass
from ld3m_plugin.storage import read_text

_LISTED = TypeAdapter(list[str | PriorClass])
_WORDNET = re.compile(r"(n\d{8})\s+(.+)")


def imagenet_classes() -> tuple[PriorClass, ...]:
    """List the 1,000 classes of ILSVRC-2012 in label order, which is the order of their WordNet ids."""
    return _parse_lines(resources.files("ld3m_plugin.priors").joinpath("imagenet1k.txt").read_text(encoding="utf-8"))


def read_classes(path: Path) -> tuple[PriorClass, ...]:
    """Read class names from a text file, one a line, or from a JSON list.

    A line is a name, with its WordNet id before it if it has one. In JSON, a class is such a line, or
    {"name": ..., "wordnet_id": ...}.

    Raises:
        PriorError: the file cannot be read or holds something else.
    """
    advice = "write one name a line"
    # Editors on Windows begin a file with a byte order mark; lists that are put together have more of them.
    text = read_text(path, lambda message: PriorError(f"{message}: {advice}")).replace("\ufeff", "")
    if path.suffix != ".json":
        return _parse_lines(text)
    try:
        return tuple(_line(item) if isinstance(item, str) else item for item in _LISTED.validate_json(text))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        reason = ": ".join([*map(str, problem["loc"][:1]), problem["msg"]])
        raise PriorError(f"{path} is damaged ({one_line(reason)}): {advice}") from error


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


def _parse_lines(text: str) -> tuple[PriorClass, ...]:
    return tuple(_line(line) for line in text.splitlines() if line.strip())


def _line(line: str) -> PriorClass:
    match = _WORDNET.fullmatch(line.strip())
    return PriorClass(match[2], match[1]) if match else PriorClass(line.strip())

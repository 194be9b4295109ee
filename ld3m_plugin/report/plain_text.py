"""Text, numbers and settings of files that anybody may have written, as a report shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ld3m_plugin.errors import visible

_MOST, _MOST_SETTINGS = 200, 1000


def short(value: Any, most: int = _MOST) -> str:
    """Any value of a file as one visible line of at most `most` characters and an ellipsis."""
    try:
        text = visible(str(value)[: most + 1])
    except (RecursionError, ValueError):  # nested too deep, a number with too many digits
        text = "…"
    return text if len(text) <= most else text[:most] + "…"


def named(generator: str, objective: str, settings: Mapping[str, Any], most: int = 60) -> str:
    """What a configuration is: its generator, its objective and the settings in which it differs.

    >>> named("ld3m", "dm", {"generator.options.steps": 5})
    'ld3m with dm, steps 5'
    """
    differing = "".join(f", {path.split('.')[-1]} {value}" for path, value in settings.items())
    return short(f"{generator}{f' with {objective}' if objective else ''}{differing}", most)


def fact(content: Any, *path: str) -> Any:
    """The value below the keys of `path`, or None where the file has something else there.

    >>> fact({"a": {"b": 1}}, "a", "b"), fact({"a": 1}, "a", "b")
    (1, None)
    """
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def number(value: Any) -> float | None:
    """A finite number that can be drawn, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and abs(found) < 1e100 else None


def flat(settings: Any) -> dict[str, str]:
    """Settings by dotted path, as text; the first thousand of them, and twenty levels deep.

    >>> flat({"a": {"b": 1, "c": []}})
    {'a.b': '1', 'a.c': '[]'}
    """
    return dict(islice(_leaves(settings, "", 20), _MOST_SETTINGS))


def _leaves(settings: Any, above: str, levels: int) -> Iterator[tuple[str, str]]:
    if not isinstance(settings, dict) or not settings or not levels:
        yield above, short(settings)
        return
    for key, value in settings.items():
        yield from _leaves(value, f"{above}.{short(key)}" if above else short(key), levels - 1)


def amount(count: float | None, unit: str = "") -> str:
    """A count with separators, or `unknown`.

    >>> amount(40960, "bytes"), amount(None)
    ('40,960 bytes', 'unknown')
    """
    return "unknown" if count is None else f"{count:,.0f} {unit}".rstrip()

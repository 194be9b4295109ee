"""Which setting an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ld3m_plugin.errors import UsageError


@contextmanager
def located(part: str, key: str = "") -> Iterator[None]:
    """Say of an error which setting is wrong: `part`.`key`; without a key, the part's name or, where one is named, its option."""
    try:
        yield
    except UsageError as error:
        if key:
            error.location = (part, key)
        elif not error.location:
            error.location = (part, "name")
        elif error.location[0] != part:
            error.location = (part, "options", *error.location)
        raise

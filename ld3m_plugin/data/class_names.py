"""The one form in which class names of folders, priors and class maps are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

#: Characters that show nothing: byte order mark, zero width space, word joiner, soft hyphen, and the selectors that choose
#: between a text and a picture of one emoji. The joiners inside emoji and Indic words carry meaning.
_INVISIBLE = re.compile("[\ufeff\u200b\u2060\u00ad\ufe0e\ufe0f]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_APOSTROPHES = re.compile("[\u2018\u2019\u02bc]")
_SEPARATORS = re.compile(r"[\s_/-]+")
_LETTER = r"[^\W\d_]"
#: Punctuation between letters, such as in `potter's wheel`, `St. Bernard` and `jack-o'-lantern`; in `1.5` it carries meaning.
_PUNCTUATION = re.compile(rf"(?<={_LETTER})(?=[\s_/-]*[',.])[\s_/',.-]+(?={_LETTER})")


def composed(name: str) -> str:
    """`name` with composed letters (Unicode NFC) and without invisible characters.

    >>> composed("pa\\u0302te\\u0301") == "pât\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", name))


@lru_cache(maxsize=2**14)
def comparable(name: str) -> str:
    """The form in which two spellings of one class name are equal.

    Case, Unicode form, and which of space, `_`, `-`, `/` separates two words do not matter. Other signs do (C, C++, C#), and so
    does a `-` that belongs to one side alone (`-5`, `A-`). A name that is nothing but separators stands for itself.

    >>> comparable("T-shirt/top") == comparable("t_shirt TOP")
    True
    >>> [comparable(name) for name in ("C#", "C++", "-", "A-", "Rh -", "a - b")]
    ['c#', 'c++', '-', 'a-', 'rh-', 'a b']
    """
    name = unicodedata.normalize("NFC", unicodedata.normalize("NFD", composed(name)).casefold())
    name = _APOSTROPHES.sub("'", _DASHES.sub("-", name)).strip()
    if _SEPARATORS.fullmatch(name):
        return name
    return _SEPARATORS.sub(_separator, _PUNCTUATION.sub(" ", name)).strip()


def same_names(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of `names` that are equal in the form `comparable`, or None."""
    seen: dict[str, str] = {}
    for name in names:
        key = comparable(name)
        if key in seen:
            return seen[key], name
        seen[key] = name
    return None


def _separator(match: re.Match[str]) -> str:
    """What stands for a run of separators: a space, or the signs that belong to one side of it."""
    run = match[0]
    if match.start() == 0 or match.end() == len(match.string):
        return re.sub(r"[\s_]", "", run)
    if run[0] != "-" and run[-1] == "-":
        return " -"
    return "- " if run[0] == "-" and run[-1] != "-" else " "

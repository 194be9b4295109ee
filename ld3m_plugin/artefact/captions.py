"""Names in pictures: of rows, columns and single tiles, in Pillow's own font, which has Latin letters alone."""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageFont

_SIZE = 12  # pixels
_MOST = 60  # characters that are measured
_MISSING = "\uffff"
_CUT = ".."
#: Height of a line of text with its margin, in pixels.
LINE = 17


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of captions; Pillow without FreeType has a bitmap one."""
    return ImageFont.load_default(_SIZE)


def drawable(name: str, otherwise: str) -> str:
    """`name` in letters that the font has, without accents; `otherwise` where it has not even half of them.

    >>> drawable("Größe\\n", "class 1"), drawable("日本", "class 2")
    ('Grosse', 'class 2')
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))[:_MOST]
    letters = [letter for letter in plain if not unicodedata.combining(letter) and letter.isprintable()]
    known = [letter if _has(letter) else "?" for letter in letters]
    return "".join(known).strip() if known.count("?") - letters.count("?") <= len(letters) / 2 and known else otherwise


def text_width(text: str) -> int:
    """Width of a text in pixels."""
    return round(font().getlength(text))


def fitted(text: str, most: int) -> str:
    """`text`, cut off so that it is at most `most` pixels wide.

    >>> fitted("aaaa", 1000), fitted("aaaaaaaaaaaaaaaa", 40).endswith("..")
    ('aaaa', True)
    """
    if text_width(text) <= most:
        return text
    while text and text_width(text + _CUT) > most:
        text = text[:-1]
    return text + _CUT


@cache
def _has(letter: str) -> bool:
    if letter.isspace() or isinstance(font(), ImageFont.ImageFont):
        return letter.isascii()
    return bytes(font().getmask(letter)) != bytes(font().getmask(_MISSING))

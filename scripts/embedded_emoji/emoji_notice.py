"""The text of `NOTICE`: who drew the pictures, under which licence, from which package."""

from __future__ import annotations

from collections.abc import Sequence

from embedded_emoji.emoji_packages import LABELS, STYLES, Style

_HEAD = """\
Emoji drawings

The six sheets STYLE.webp beside this notice hold drawings of these authors. Changes: the vector drawings were drawn at 256x256
pixels on white and reduced by averaging (scripts/make_embedded_emoji.py); some emoji of each set were left out.
"""
_LABELS = """\
Code points, English labels and the order of the classes are from {name} {version} (npm):
Copyright (c) 2017-2019 Miles Johnson, MIT License, as below.
"""
_LICENCES = """\
Apache-2.0: the text is in the file LICENSE of this package. CC-BY-4.0: https://creativecommons.org/licenses/by/4.0/legalcode

MIT License

Copyright (c) Microsoft Corporation (Fluent Emoji, Fluent Emoji Flat)
Copyright (c) 2017-2019 Miles Johnson (emojibase-data)

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy,
modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def notice(styles: Sequence[Style]) -> str:
    """The notice: a line for each style, then the licences."""
    lines = []
    for style in styles:
        info, version = style.info, STYLES[style.name][0]
        author, licence = info["author"], info["license"]
        lines.append(f"{style.name}: {info['name']}, {author['name']}, {author['url']}")
        lines.append(f"  {licence['spdx']}, {licence['url']}; npm @iconify-json/{style.name} {version}")
    return "\n".join([_HEAD, *lines, "", _LABELS.format(name=LABELS[0], version=LABELS[1]), _LICENCES])

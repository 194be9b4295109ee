"""Which emoji are one drawing, and which drawings are near variants of each other.

A drawing is a sequence of code points without skin tone, gender and variation selectors: `man cook`, `woman cook` and `cook` are
one, and it is one picture in each style. Drawings that are near variants (the hours of a clock, the colours of a heart, a cat
and a cat's face) are one group; a group is on one side of the split in every style.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

_TONES = {f"1f3f{n}" for n in "bcdef"}
_SIGNS = {"2640", "2642"}
#: Code points that differ in gender (or, for a child, age) alone -> the neutral one.
_NEUTRAL = {
    "1f468": "1f9d1",
    "1f469": "1f9d1",
    "1f466": "1f9d2",
    "1f467": "1f9d2",
    "1f474": "1f9d3",
    "1f475": "1f9d3",
    "1f478": "1f934",
    "1f936": "1f385",
}

#: Text in a label -> what it is replaced by: drawings that are alike then are one group.
_VARIANTS = [
    (r"^(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)([- ]?thirty| o’clock)$", "clock face"),
    (r" \(blood type\)$", ""),
    (r"^(a|b|ab|o|p) button$", "letter sign"),
    (r"^(cl|cool|free|id|new|ng|ok|sos|up!|vs) button$", "word sign"),
    (r"^japanese “.*” button$", "japanese sign"),
    (r"^input .*", "input"),
    (r"^no .*|^prohibited$|^non-potable water$", "prohibition"),
    (r"^(men|women|people) with bunny ears$", "bunny ears"),
    (r"^(men|women|people) wrestling$", "wrestling"),
    (r": facing right$", ""),
    (r"^(muted speaker|speaker (low|medium|high) volume)$", "speaker"),
    (r"\b(red|orange|yellow|green|blue|light blue|purple|brown|black|white|grey|pink)\b", ""),
    (r"\b(large|medium-small|medium|small)\b", ""),
    (r"\b(up|down|left|right)-(up|down|left|right)\b", ""),
    (r"\b(left|right|upwards|downwards|up|down|leftwards|rightwards)\b", ""),
    (r"\b(1st|2nd|3rd) place\b", "place"),
    (r"\boncoming (?!fist)", ""),
    (r"\b(waxing|waning|new|full|first quarter|last quarter)\b(?=.*\bmoon\b)", ""),
    (r"\b(crescent|gibbous)\b(?=.*\bmoon\b)", ""),
    (r"\b(open|closed) mailbox with (raised|lowered) flag\b", "mailbox"),
    (r"^globe (showing|with) .*", "globe"),
    (r"\bmoon face$", "moon"),
    (r"^(cow|dog|cat|pig|horse|mouse|rabbit|tiger|monkey|dragon) face$", r"\1"),
]
#: Groups by hand: a line has the labels of drawings that look alike.
NEAR = (Path(__file__).parent / "near_variants.txt").read_text(encoding="utf-8").splitlines()


def base(code: str) -> str:
    """Code points of a drawing: without skin tone, sign of gender, and joiners that then join nothing.

    >>> base("1f469-200d-1f373"), base("1f3c3-1f3fb-200d-2642")
    ('1f9d1-200d-1f373', '1f3c3')
    """
    parts = [_NEUTRAL.get(part, part) for part in code.split("-") if part not in _TONES]
    kept = "-".join(part for part in parts if len(parts) == 1 or part not in _SIGNS)
    return re.sub(r"(-200d)+$", "", re.sub(r"(-200d)+(?=-200d)", "", kept))


def _plain(label: str) -> str:
    for pattern, instead in _VARIANTS:
        label = re.sub(pattern, instead, label)
    return re.sub(r"[^a-z0-9]+", " ", label).strip() or "colour"


class _Sets:
    """Sets of names that are joined (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        while (parent := self._parent.setdefault(name, name)) != name:
            name = parent
        return name

    def join(self, names: Iterable[str]) -> None:
        first, *others = [self.find(name) for name in names]
        for other in others:
            self._parent[self.find(other)] = self.find(first)


def groups(labels: Mapping[str, str]) -> dict[str, str]:
    """Drawing -> group, named by its first drawing, from code points -> label.

    Raises:
        SystemExit: a label of `NEAR` is of no drawing.
    """
    sets = _Sets()
    by_label: dict[str, str] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for code, label in labels.items():
        by_label.setdefault(label, base(code))
        alike[_plain(label)].append(base(code))
    for codes in alike.values():
        sets.join(codes)
    for line in NEAR:
        unknown = [label for label in line.split("|") if label not in by_label]
        if unknown:
            raise SystemExit(f"NEAR names {unknown}, which are labels of no drawing")
        sets.join(by_label[label] for label in line.split("|"))
    drawings = dict.fromkeys(map(base, labels))
    first: dict[str, str] = {}
    for drawing in drawings:
        first.setdefault(sets.find(drawing), drawing)
    return {drawing: first[sets.find(drawing)] for drawing in drawings}

"""Which drawings a class of a task has, and which are for training, validation and testing.

Hashes decide, not a random generator whose stream may differ between versions: the split is the same for ever.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from embedded_emoji.emoji_categories import MOST_DRAWINGS, NOT_IN_TASKS, TASKS

#: Share of the drawings that is for testing, and share of the others that is for validation.
TEST, VALIDATION = Fraction(1, 3), Fraction(1, 6)


@dataclass(frozen=True)
class Drawing:
    """A drawing: code points, label, category, and the first drawing of its group."""

    code: str
    label: str
    category: str
    group: str


def rank(text: str) -> str:
    """Sorting by it is an order at random that is the same everywhere."""
    return hashlib.sha256(f"emoji/{text}".encode()).hexdigest()


def task_classes(drawings: Sequence[Drawing]) -> dict[str, dict[str, list[str]]]:
    """Task -> class -> code points of its drawings, in the order of `drawings`.

    A class of more than `MOST_DRAWINGS` keeps the first of each group, then the second, and so on, each in an order at random.
    """
    return {
        task: {name: _class(drawings, parts.split()) for name, parts in spec.items()} for task, spec in TASKS.items()
    }


def _class(drawings: Sequence[Drawing], categories: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for each in drawings:
        if each.category in categories and each.label not in NOT_IN_TASKS:
            groups[each.group].append(each.code)
    order = sorted((place, rank(code), code) for codes in groups.values() for place, code in enumerate(codes))
    kept = {code for _, _, code in order[:MOST_DRAWINGS]}
    return [each.code for each in drawings if each.code in kept]


def split(drawings: Sequence[Drawing], main: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Code points -> train, validation or test.

    The shares hold, as near as whole groups allow, in each category; and in each for the drawings of the main task, where a
    group has any, apart from the others.
    """
    in_main = {code for codes in main.values() for code in codes}
    category: dict[str, Counter[str]] = defaultdict(Counter)
    weight: Counter[str] = Counter()
    for each in drawings:
        category[each.group][each.category] += 1
        weight[each.group] += each.code in in_main
    strata: dict[tuple[str, bool], dict[str, int]] = defaultdict(dict)
    for group, names in category.items():
        stratum = names.most_common(1)[0][0], weight[group] > 0
        strata[stratum][group] = weight[group] or names.total()
    part: dict[str, str] = {}
    for groups in strata.values():
        part |= _shared_out(groups)
    return {each.code: part[each.group] for each in drawings}


def _shared_out(groups: Mapping[str, int]) -> dict[str, str]:
    """Group -> part, from the number of drawings in each.

    Groups come in an order at random, and each goes where the largest share of drawings is missing and it fits; else to training.
    """
    total = sum(groups.values())
    test = round(total * TEST)
    validation = round((total - test) * VALIDATION)
    wanted = {"train": total - test - validation, "test": test, "validation": validation}
    missing = dict(wanted)
    part: dict[str, str] = {}
    for group in sorted(groups, key=rank):
        fits = [name for name in missing if groups[group] <= missing[name]]
        part[group] = max(fits, key=lambda name: missing[name] / wanted[name]) if fits else "train"
        missing[part[group]] -= groups[group]
    return part


def class_maps(
    drawings: Sequence[Drawing], tasks: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, dict[str, str]]:
    """Task -> class -> the category of its name, else the one that most of its drawings are in, of equals the first by name."""
    category = {each.code: each.category for each in drawings}
    maps: dict[str, dict[str, str]] = {}
    for task, classes in tasks.items():
        counts = {name: Counter(category[code] for code in codes) for name, codes in classes.items()}
        maps[task] = {
            name: name if name in found else min(found, key=lambda each: (-found[each], each))
            for name, found in counts.items()
        }
    return maps

"""Recognise the folders of a data set: splits by their usual names, a wrapper around them, or class folders alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ld3m_plugin.data.class_names import comparable
from ld3m_plugin.data.picture_listing import LeftOut, has_loose_images, list_images, subfolders
from ld3m_plugin.errors import DataError

#: Words that name a split; the first split for testing that is there is used.
_ROLES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
_SPLIT_NAME = re.compile(r"([a-z]+?) ?(?:set|split|data|images)?")
_WORD = re.compile(r"[a-z]+")
#: Folders that lie beside splits and hold pictures without classes; they are left out.
_UNLABELLED = {"unlabeled", "unlabelled", "unsup", "extra", "pred"}
_DEEPEST_WRAPPER = 8


@dataclass(frozen=True)
class Layout:
    """Where the class folders lie: in `train` and `test`, or in `train` alone, of which a share is then held out."""

    root: Path
    train: Path
    test: Path | None


def find_layout(root: Path, left_out: LeftOut) -> Layout:
    """Find the splits in a folder, or in the single folder inside it (a wrapper, as archives have).

    Args:
        left_out: counts the folders and files beside the splits.

    Raises:
        DataError: a split is there twice or without its other part, a class folder lies beside splits, or folders look like
            splits but are none that can be read. The message names the folders.
    """
    root = _inside_wrapper(root, left_out, of_splits=True)
    folders = subfolders(root)
    splits = {folder: role for folder in folders if (role := _role(folder.name)) and subfolders(folder)}
    if not splits:
        _check_no_splits(root, folders)
        return Layout(root, root, None)
    chosen = _one_folder_a_role(root, splits)
    if "train" not in chosen:
        raise DataError(
            f"{root} has {_listed(splits)} and no train/: add it, or give imagefolder:{next(iter(splits))} to hold a share of "
            "it out for testing (test_fraction)"
        )
    test = chosen.get("val", chosen.get("test"))
    used = [folder for folder in (chosen["train"], test) if folder is not None]
    _check_others(root, used, [folder for folder in folders if folder not in used], left_out)
    train, *tested = (_inside_wrapper(folder, left_out, of_splits=False) for folder in used)
    return Layout(root, train, tested[0] if tested else None)


def _inside_wrapper(root: Path, left_out: LeftOut, *, of_splits: bool) -> Path:
    """The folder that holds the class folders: `root`, or the only folder in it, and so on.

    Args:
        of_splits: stop where the only folder is a split. Inside a split, such a name means nothing (`train/train/CLASS`).
    """
    passed = [root]
    while len(passed) <= _DEEPEST_WRAPPER:
        here = passed[-1]
        inside = subfolders(here)
        if here != root and has_loose_images(here):  # a class with subfolders
            passed = [root]
            break
        if len(inside) > 1 or (of_splits and any(_role(folder.name) and subfolders(folder) for folder in inside)):
            break
        if not inside or has_loose_images(here):
            passed = [root]
            break
        passed.append(inside[0])
    for folder in passed:
        subfolders(folder, left_out)
    return passed[-1]


def _role(name: str) -> str | None:
    """The split that a folder's whole name stands for.

    >>> [_role(name) for name in ("Training", "test_set", "dev", "train 2", "cat")]
    ['train', 'test', 'val', None, None]
    """
    match = _SPLIT_NAME.fullmatch(comparable(name))
    return next((role for role, words in _ROLES.items() if match and match[1] in words), None)


def _one_folder_a_role(root: Path, splits: dict[Path, str]) -> dict[str, Path]:
    chosen: dict[str, Path] = {}
    for folder, role in splits.items():
        if role in chosen:
            raise DataError(
                f"{chosen[role]} and {folder} look like the same split of {root}: keep one, or put the images of both together"
            )
        chosen[role] = folder
    return chosen


def _check_no_splits(root: Path, folders: Sequence[Path]) -> None:
    """Refuse folders that would become classes although their names say that they are splits."""
    whole = [folder for folder in folders if _role(folder.name)]
    if len({_role(folder.name) for folder in whole}) > 1:
        raise DataError(
            f"{_listed(whole)} in {root} look like splits and have no class folders: put the images of each class into a folder "
            "of its own, in each split"
        )
    for folder in folders:
        parts = {role: entry for entry in subfolders(folder) if (role := _role(entry.name))}
        if "train" in parts and len(parts) > 1:
            train = parts["train"]
            way = f"put them above, as {root / train.name / folder.name}"
            raise DataError(
                f"{_listed(sorted(parts.values()))} in {folder} look like splits below a class: "
                + (f"give imagefolder:{folder}" if subfolders(train) else way)
            )
    trained, tested = (
        [folder for folder in folders if _names_part(folder.name, roles)] for roles in (["train"], ["val", "test"])
    )
    for here, there in product(trained, tested):
        inside, other = ({comparable(entry.name) for entry in subfolders(folder)} for folder in (here, there))
        if here != there and inside & other:
            raise DataError(
                f"{here.name}/ and {there.name}/ in {root} look like splits (both have {min(inside & other)!r}): call "
                "them train/ and val/ or test/"
            )


def _names_part(name: str, roles: Sequence[str]) -> bool:
    """Whether a word of a longer name stands for one of the splits, as in `seg_train`."""
    words = set(_WORD.findall(comparable(name)))
    return any(words.intersection(_ROLES[role]) for role in roles)


def _check_others(root: Path, used: Sequence[Path], others: Sequence[Path], left_out: LeftOut) -> None:
    """Refuse class folders beside splits; count the other folders as left out."""
    for folder in others:
        known = _role(folder.name) in ("val", "test") or comparable(folder.name) in _UNLABELLED
        if not known and list_images(folder):
            raise DataError(
                f"{_listed(used)} in {root} look like splits, and {folder} lies beside them: move its images into the splits, or "
                "move it away; if all are classes, move the images in them up, out of their subfolders"
            )
        left_out.add(f"{folder.name}/", [folder])


def _listed(folders: Collection[Path]) -> str:
    return " and ".join(f"{folder.name}/" for folder in folders)

"""Find pictures that lie in the training and in the test images: a test with them measures what was learned by heart."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ld3m_plugin.data.decode import LARGEST_PICTURE, UnreadableImageError
from ld3m_plugin.errors import DataError

_NAMED = 3


def check_apart(
    train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]], folders: Sequence[Path]
) -> tuple[str, ...]:
    """Compare the files of two splits by their bytes.

    Args:
        train, test: class name -> files.
        folders: of both; equal where a share was held out, which is never refused.

    Returns:
        A line that counts the test images with a copy among the training images and names some; empty without any.

    Raises:
        DataError: given splits are the same pictures: one folder is a link to the other, or each file has a copy in the other.
    """
    files, tested = ([path for paths in classes.values() for path in paths] for classes in (train, test))
    pairs, (here, there) = _copies(files, tested), folders
    all_the_same = len(pairs) == len(tested) and len(_copies(tested, files)) == len(files)
    if here != there and (all_the_same or here.samefile(there)):
        raise DataError(
            f"{there} has the same pictures as {here}: put others there, or give imagefolder:{here} to hold a share of "
            "it out (test_fraction)"
        )
    if not pairs:
        return ()
    named = "; ".join(f"{one} is {other}" for one, other in pairs[:_NAMED])
    more = f"; and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    return (
        f"{len(pairs)} of {len(tested)} test images are copies of training images, so accuracies are too high: {named}{more}",
    )


def _copies(train: Collection[Path], test: Collection[Path]) -> list[tuple[Path, Path]]:
    """Test files and the first training file with the same bytes. Only files with the size of another one are read."""
    by_size, tested = _sizes(train), _sizes(test)
    pairs = []
    for size in by_size.keys() & tested.keys():
        known: dict[bytes, Path] = {}
        for path in by_size[size]:
            known.setdefault(_digest(path), path)
        pairs += [(path, known[digest]) for path in tested[size] if (digest := _digest(path)) in known]
    return sorted(pairs)


def _sizes(files: Iterable[Path]) -> dict[int, list[Path]]:
    """Regular files by size in bytes."""
    found: dict[int, list[Path]] = {}
    for path in files:
        try:
            facts = path.stat()
        except OSError as error:
            raise UnreadableImageError(path, error.strerror or str(error)) from error
        if stat.S_ISREG(facts.st_mode) and facts.st_size <= LARGEST_PICTURE:  # a larger one is not read as a picture
            found.setdefault(facts.st_size, []).append(path)
    return found


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UnreadableImageError(path, error.strerror or str(error)) from error

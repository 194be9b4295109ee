"""Find pictures that lie in the training and in the test images: a test with them measures what was learned by heart."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from ld3m_plugin.data.decode import LARGEST_PICTURE, UnreadableImageError
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass

_NAMED = 3
#: Files of a split that are compared by their bytes; of more, evenly spaced ones: all of ImageNet would be read at each start.
_COMPARED = 2000


def check_apart(
    train: Mapping[str, Sequence[Path]],
    test: Mapping[str, Sequence[Path]],
    folders: Sequence[Path],
    images: Sequence[ImagesByClass] = (),
) -> tuple[str, ...]:
    """Compare the pictures of two splits: by their pixels where these are in memory, else by the bytes of the files.

    A picture that was stored again, as PNG or with other metadata, has other bytes and the same pixels.

    Args:
        train, test: class name -> files.
        folders: of both; equal where a share was held out, which is never refused.
        images: the images of both, in the order of the files, if they are in memory.

    Returns:
        A line that counts the test images with a copy among the training images and names some; empty without any.

    Raises:
        DataError: given splits are the same pictures: one folder is a link to the other, or each picture has a copy in the other.
    """
    files, tested = ([path for paths in classes.values() for path in paths] for classes in (train, test))
    here, there = folders
    if images:
        pairs, others = _same_pixels(files, tested, images)
    else:
        tested, files_too = _some(tested), _some(files)
        pairs = _copies(files, tested)
        others = (
            _copies([path for paths in test.values() for path in paths], files_too) if len(pairs) == len(tested) else []
        )
        files = files_too
    all_the_same = len(pairs) == len(tested) and len(others) == len(files)
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


def _some(files: list[Path]) -> list[Path]:
    """At most `_COMPARED` files, evenly spaced."""
    return files[:: -(-len(files) // _COMPARED) or 1]


_Pairs = list[tuple[Path, Path]]


def _same_pixels(train: Sequence[Path], test: Sequence[Path], images: Sequence[ImagesByClass]) -> tuple[_Pairs, _Pairs]:
    """Test files and the first training file with the same pixels, and the other way round."""
    known, tested = (
        list(zip(paths, _digests(split), strict=True)) for paths, split in zip((train, test), images, strict=True)
    )
    return _paired(tested, known), _paired(known, tested)


def _paired(files: Sequence[tuple[Path, bytes]], others: Sequence[tuple[Path, bytes]]) -> _Pairs:
    """Files with a digest that one of the others has, and the first such one."""
    first = {digest: path for path, digest in reversed(others)}
    return sorted((path, first[digest]) for path, digest in files if digest in first)


def _digests(images: ImagesByClass) -> Iterator[bytes]:
    """SHA-256 of the pixels of each image, class by class."""
    for index, count in enumerate(images.counts()):
        for image in images.read(index, torch.arange(count)):
            yield hashlib.sha256(image.contiguous().numpy().data).digest()


def _copies(train: Collection[Path], test: Collection[Path]) -> _Pairs:
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

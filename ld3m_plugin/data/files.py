"""Images read from files: into memory if they fit, else on use."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.copies import check_apart
from ld3m_plugin.data.decode import Form, UnreadableImageError, read_image
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.picture_listing import LeftOut
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass

#: Bytes of decoded images to keep per split: a split that fits is decoded once, of a larger one the images used last stay.
MEMORY_BUDGET = 2 * 2**30
#: Bytes of files whose contents are in the digest of a split: a start must not read all of ImageNet.
DIGESTED_BYTES = 256 * 2**20
Classes = Mapping[str, Sequence[Path]]


class ImageFiles(ImagesByClass):
    """Images of K classes that stay on disk; the ones used last are kept in memory as uint8 (C, H, W), RGB or grey.

    Args:
        paths: files of each class.
        form: size and channels of the images.
        origin: folder of the split, for error messages.
        cache_bytes: bytes of images to keep in memory.
    """

    def __init__(self, paths: Sequence[Sequence[Path]], form: Form, origin: str, cache_bytes: int) -> None:
        self.origin = origin
        self._paths = [list(files) for files in paths]
        self._form = form
        self._capacity = cache_bytes // _image_bytes(form)
        self._cache: OrderedDict[Path, Tensor] = OrderedDict()

    def counts(self) -> tuple[int, ...]:
        return tuple(len(files) for files in self._paths)

    def read(self, class_index: int, which: Tensor) -> Tensor:
        """Images `which` (n,) of one class as uint8 (n, C, H, W), on the CPU.

        Raises:
            UnreadableImageError: a file is damaged.
            DataError: a file differs from the others in a size or kind that was not chosen.
        """
        wanted = [self._paths[class_index][index] for index in which.tolist()]
        found = {path: self._cache[path] for path in wanted if path in self._cache}
        found.update(_decoded([path for path in dict.fromkeys(wanted) if path not in found], self._form))
        self._remember(found)
        images = torch.empty(len(wanted), self._form.channels, self._form.size, self._form.size, dtype=torch.uint8)
        for row, path in enumerate(wanted):
            images[row] = found[path]
        return images

    def digest(self, class_index: int) -> str:
        """SHA-256 of the files' sizes and contents, in order, without decoding them.

        Of a class of more than its share of `DIGESTED_BYTES`, the contents are those of evenly spaced files. A file that was
        written again with the same pixels counts as another one; its name and place do not count.
        """
        paths = self._paths[class_index]
        digest = hashlib.sha256()
        try:
            sizes = [path.stat().st_size for path in paths]
            digest.update(repr(sizes).encode())
            step = -(-sum(sizes) * len(self._paths) // DIGESTED_BYTES) or 1
            for path in paths[::step]:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"cannot read {error.filename}: {error.strerror}; put it back") from error
        return f"files:{digest.hexdigest()}"

    def _remember(self, images: Mapping[Path, Tensor]) -> None:
        for path, image in images.items():
            self._cache[path] = image
            self._cache.move_to_end(path)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)


def open_files(
    classes: Classes,
    form: Form,
    folder: Path,
    *,
    decoded: dict[Path, Tensor] | None = None,
    budget: int = MEMORY_BUDGET,
) -> ImagesByClass:
    """Open the images of one split.

    A split that fits the budget is decoded here, so that a damaged file stops a run before it starts. A larger one is
    decoded on use.

    Args:
        classes: class name -> files, in label order.
        form: size and channels of the images.
        folder: folder of the split, for error messages.
        decoded: images that have been read before; they are taken out.
        budget: bytes of memory.

    Raises:
        UnreadableImageError: a file is damaged.
        DataError: a class has no image.
    """
    for name, files in classes.items():
        if not files:
            raise DataError(f"class {name!r} in {folder} has no image that can be read")
    if sum(map(len, classes.values())) * _image_bytes(form) > budget:
        return ImageFiles(list(classes.values()), form, str(folder), budget)
    return InMemoryImages([_decode_class(files, form, decoded or {}) for files in classes.values()], str(folder))


def readable(
    classes: Classes, form: Form, left_out: LeftOut, budget: int = MEMORY_BUDGET
) -> tuple[dict[str, list[Path]], dict[Path, Tensor]]:
    """Read all files once to find those that can be read; the others are left out.

    Returns:
        Class name -> readable files, and the images (C, H, W), empty if they exceed the budget.
    """
    keep = sum(map(len, classes.values())) * _image_bytes(form) <= budget
    good: dict[str, list[Path]] = {}
    images: dict[Path, Tensor] = {}
    for name, files in classes.items():
        good[name] = []
        for path, image in _decoded(files, form, skip_unreadable=True):
            good[name].append(path)
            if keep:
                images[path] = image
        left_out.add("unreadable", set(files).difference(good[name]))
    return good, images


@dataclass(frozen=True)
class Splits:
    """Training and test images; `counts` says how many, for `Task.source`, and `notes` are for `Task.notes`."""

    train: ImagesByClass
    test: ImagesByClass
    counts: str
    notes: tuple[str, ...]


def open_splits(
    splits: Sequence[tuple[Classes, Path]], form: Form, left_out: LeftOut, decoded: dict[Path, Tensor] | None = None
) -> Splits:
    """Open the training and the test images as `open_files` does, and look for copies among them.

    Args:
        splits: files by class, and the folder, of both.
        left_out: what was left out before, for the text.
        decoded: images that have been read before; they are taken out.

    Raises:
        DataError: as `open_files`, or the splits are the same pictures.
    """
    train, test = (open_files(classes, form, folder, decoded=decoded) for classes, folder in splits)
    (files, here), (tested, there) = splits
    in_memory = isinstance(train, InMemoryImages) and isinstance(test, InMemoryImages)
    notes = check_apart(files, tested, (here, there), (train, test) if in_memory else ())
    counts = f"{sum(train.counts())} train, {sum(test.counts())} test"
    return Splits(train, test, left_out.after(counts), notes)


def _decode_class(files: Sequence[Path], form: Form, decoded: dict[Path, Tensor]) -> Tensor:
    images = torch.empty(len(files), form.channels, form.size, form.size, dtype=torch.uint8)
    missing = _decoded([path for path in files if path not in decoded], form)
    for row, path in enumerate(files):
        images[row] = decoded.pop(path) if path in decoded else next(missing)[1]
    return images


def _decoded(files: Sequence[Path], form: Form, skip_unreadable: bool = False) -> Iterator[tuple[Path, Tensor]]:
    """Files and their images; in order, so that the first error is always the same one."""

    def read(path: Path) -> Tensor | None:
        try:
            return read_image(path, form)
        except UnreadableImageError:
            if skip_unreadable:
                return None
            raise

    # Threads, because Pillow releases the interpreter's lock while it decodes.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for path, image in zip(files, pool.map(read, files), strict=True):
            if image is not None:
                yield path, image


def _image_bytes(form: Form) -> int:
    return form.channels * form.size * form.size

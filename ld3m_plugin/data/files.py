"""Images that are read from files: into memory where they fit, else on use."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.decode import Form, UnreadableImageError, read_image
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass

#: A split that takes no more than this as uint8 is decoded once and kept; of a larger one, this much of what was read.
MEMORY_BUDGET = 2 * 2**30
EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and its subfolders, sorted by path. Hidden files and other endings are ignored."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return sorted(found)


class ImageFiles(ImagesByClass):
    """Images of K classes that stay on disk; the ones last used are kept as uint8.

    Args:
        paths: the files of each class.
        form: what each file becomes.
        origin: folder of the split, for error messages.
        cache_bytes: how much is kept.
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
        """As the contract says.

        Raises:
            UnreadableImageError: a file is damaged.
            DataError: a file is unlike the others where neither size nor channels were chosen.
        """
        wanted = [self._paths[class_index][index] for index in which.tolist()]
        found = {path: self._cache[path] for path in wanted if path in self._cache}
        missing = [path for path in dict.fromkeys(wanted) if path not in found]
        found.update(zip(missing, _decoded(missing, self._form), strict=True))
        self._remember(found)
        images = torch.empty(len(wanted), self._form.channels, self._form.size, self._form.size, dtype=torch.uint8)
        for row, path in enumerate(wanted):
            images[row] = found[path]
        return images

    def _remember(self, images: Mapping[Path, Tensor]) -> None:
        for path, image in images.items():
            self._cache[path] = image
            self._cache.move_to_end(path)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)


def open_files(
    classes: Mapping[str, Sequence[Path]],
    form: Form,
    folder: Path,
    *,
    skip_unreadable: bool = False,
    budget: int = MEMORY_BUDGET,
) -> tuple[ImagesByClass, int]:
    """The images of one split, and how many unreadable files were left out.

    A split that fits the budget is decoded here, so that a damaged file shows before a run and not in the middle of it.
    A larger one is decoded on use; with `skip_unreadable` it is decoded once beforehand, to learn which files to leave
    out.

    Args:
        classes: class name -> files, in label order.
        form: what each file becomes.
        folder: of the split, for messages.
        skip_unreadable: leave damaged files out instead of stopping.
        budget: bytes of memory.

    Raises:
        UnreadableImageError: a damaged file.
        DataError: a class without any (readable) image.
    """
    total = sum(len(files) for files in classes.values())
    if total * _image_bytes(form) <= budget:
        kept = {name: _decode_class(files, form, skip_unreadable) for name, files in classes.items()}
        images: ImagesByClass = InMemoryImages(list(kept.values()), str(folder))
    else:
        if skip_unreadable:
            classes = {name: _readable(files, form) for name, files in classes.items()}
        images = ImageFiles(list(classes.values()), form, str(folder), budget)
    for name, count in zip(classes, images.counts(), strict=True):
        if count == 0:
            raise DataError(f"class {name!r} in {folder} has no image that can be read")
    return images, total - sum(images.counts())


def _decode_class(files: Sequence[Path], form: Form, skip_unreadable: bool) -> Tensor:
    images = torch.empty(len(files), form.channels, form.size, form.size, dtype=torch.uint8)
    count = 0
    for image in _decoded_or_none(files, form) if skip_unreadable else _decoded(files, form):
        if image is not None:
            images[count] = image
            count += 1
    return images[:count]


def _readable(files: Sequence[Path], form: Form) -> list[Path]:
    return [path for path, image in zip(files, _decoded_or_none(files, form), strict=True) if image is not None]


def _decoded(files: Iterable[Path], form: Form) -> Iterator[Tensor]:
    # Threads, as Pillow lets go of the interpreter's lock while it decodes; in order, so the first error repeats.
    with ThreadPoolExecutor(_workers()) as pool:
        yield from pool.map(lambda path: read_image(path, form), files)


def _decoded_or_none(files: Iterable[Path], form: Form) -> Iterator[Tensor | None]:
    def read(path: Path) -> Tensor | None:
        try:
            return read_image(path, form)
        except UnreadableImageError:
            return None

    with ThreadPoolExecutor(_workers()) as pool:
        yield from pool.map(read, files)


def _workers() -> int:
    return min(8, os.cpu_count() or 1)


def _image_bytes(form: Form) -> int:
    return form.channels * form.size * form.size

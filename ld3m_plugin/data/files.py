"""Images read from files: into memory if they fit, else on use. `EXTENSIONS` lists the file endings that count as images."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.data.decode import Form, UnreadableImageError, read_image
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import DataError
from ld3m_plugin.task import ImagesByClass

#: Bytes of decoded images to keep per split: a split that fits is decoded once, of a larger one the images used last stay.
MEMORY_BUDGET = 2 * 2**30
#: Bytes of files of one class whose contents are all in its digest.
DIGESTED_BYTES = 256 * 2**20
#: Endings of image files, in any case, for `imagefolder` and `imagenet`.
EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def list_images(folder: Path) -> list[Path]:
    """Image files (`EXTENSIONS`) in a folder and its subfolders, sorted by path; hidden files and folders are ignored."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return sorted(found)


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

        Of a class of more than `DIGESTED_BYTES`, the contents are those of evenly spaced files. A file that was written
        again with the same pixels counts as another one; its name and place do not count.
        """
        paths = self._paths[class_index]
        digest = hashlib.sha256()
        try:
            sizes = [path.stat().st_size for path in paths]
            digest.update(repr(sizes).encode())
            step = -(-sum(sizes) // DIGESTED_BYTES) or 1
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
    classes: Mapping[str, Sequence[Path]],
    form: Form,
    folder: Path,
    *,
    skip_unreadable: bool = False,
    budget: int = MEMORY_BUDGET,
) -> tuple[ImagesByClass, int]:
    """Open the images of one split; return them and the number of unreadable files left out.

    A split that fits the budget is decoded here, so that a damaged file stops a run before it starts. A larger one is
    decoded on use; with `skip_unreadable` it is decoded once here as well, to find the files to leave out.

    Args:
        classes: class name -> files, in label order.
        form: size and channels of the images.
        folder: folder of the split, for error messages.
        skip_unreadable: leave damaged files out instead of stopping.
        budget: bytes of memory.

    Raises:
        UnreadableImageError: a file is damaged.
        DataError: a class has no (readable) image.
    """
    total = sum(len(files) for files in classes.values())
    if total * _image_bytes(form) <= budget:
        kept = {name: _decode_class(files, form, skip_unreadable) for name, files in classes.items()}
        images: ImagesByClass = InMemoryImages(list(kept.values()), str(folder))
    else:
        if skip_unreadable:
            classes = {name: [path for path, _ in _decoded(files, form, True)] for name, files in classes.items()}
        images = ImageFiles(list(classes.values()), form, str(folder), budget)
    for name, count in zip(classes, images.counts(), strict=True):
        if count == 0:
            raise DataError(f"class {name!r} in {folder} has no image that can be read")
    return images, total - sum(images.counts())


def open_splits(
    splits: Sequence[tuple[Mapping[str, Sequence[Path]], Path]], form: Form, skip_unreadable: bool
) -> tuple[ImagesByClass, ImagesByClass, str]:
    """Open the training and the test images as `open_files` does; the text counts them, for `Task.source`.

    Args:
        splits: files by class, and the folder, of both.
    """
    (train, lost), (test, lost_test) = (
        open_files(classes, form, folder, skip_unreadable=skip_unreadable) for classes, folder in splits
    )
    counts = f"{sum(train.counts())} train, {sum(test.counts())} test"
    left_out = f", {lost + lost_test} unreadable left out" if lost + lost_test else ""
    return train, test, counts + left_out


def _decode_class(files: Sequence[Path], form: Form, skip_unreadable: bool) -> Tensor:
    images = torch.empty(len(files), form.channels, form.size, form.size, dtype=torch.uint8)
    count = 0
    for _, image in _decoded(files, form, skip_unreadable):
        images[count] = image
        count += 1
    return images[:count]


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

"""`imagefolder:PATH`: a user's own images, one folder per class.

Two layouts are read. `PATH/train/CLASS/...` with `PATH/val/CLASS/...` (or, without val/, `PATH/test/`): the given split.
`PATH/CLASS/...`: a share of each class is held out for testing. Classes are the folders' names in sorted order,
compared between splits as `class_names.py` says; a WordNet id (n and eight digits) as a name is recorded as one. `EXTENSIONS`
in `files.py` lists the file endings of images; `decode.py` reads them as RGB or grey, channels first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from ld3m_plugin.data.class_names import comparable, same_names
from ld3m_plugin.data.decode import Form, Header, UnreadableImageError, check_alike, read_header
from ld3m_plugin.data.files import list_images, open_splits
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.options import Place, takes
from ld3m_plugin.task import DataOptions, Task

Classes = dict[str, list[Path]]

TEST_FOLDERS = ("val", "test")
_WORDNET_ID = re.compile(r"n\d{8}")
_HEADERS_LOOKED_AT = 64


@takes(DataOptions, argument=Place())
def load(argument: str, options: DataOptions) -> Task:
    """Read a folder of images.

    Mean and standard deviation are those of the training images (of a seeded sample of 2,000 if there are more).

    Args:
        argument: the folder, relative to `options.root` if that is given.
        options: without `image_size`, all images must be squares of one size; without `grayscale`, of one kind.

    Raises:
        DataError: the folder or a split is missing, a class is empty, classes differ between the splits, a file cannot be
            read, or images differ in kind or size. The message names the path.
        InvalidOptionError: no folder was given.
    """
    root = _root(argument, options)
    splits = _splits(root, options)
    train, folders = splits[0][0], [folder for _, folder in splits]
    form = _choose_form([path for files in train.values() for path in files], options)
    train_images, test_images, counts = open_splits(splits, form, options.skip_unreadable)
    mean, std = channel_statistics(train_images)
    split = f"{folders[0].name}/ and {folders[1].name}/"
    if folders[0] == folders[1]:
        split = f"{options.test_fraction:g} of each class held out, seed {options.split_seed}"
    names = tuple(train)
    return Task(
        name=f"imagefolder:{argument}",
        source=f"imagefolder {root} ({split}): {counts}",
        class_names=names,
        wordnet_ids=tuple(name if _WORDNET_ID.fullmatch(name) else None for name in names),
        mean=mean,
        std=std,
        image_size=form.size,
        train=train_images,
        test_images=test_images,
    )


def read_classes(folder: Path) -> Classes:
    """Class name -> image files, sorted, of a folder with one subfolder per class.

    Raises:
        DataError: the folder has no subfolders, one without an image, or two whose names are spellings of one name.
    """
    folders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        loose = " holds image files but" if list_images(folder) else ""
        raise DataError(f"{folder}{loose} has no class folders: put the images of each class into a folder of its own")
    if same := same_names(entry.name for entry in folders):
        first, second = (folder / name for name in same)
        raise DataError(
            f"class folders {first} and {second} have the same name (case, Unicode form and the separators - _ / and space "
            "do not count): rename one, or put the images of both into one folder"
        )
    return {entry.name: class_files(entry) for entry in folders}


def class_files(folder: Path) -> list[Path]:
    """Image files of one class, sorted.

    Raises:
        DataError: the folder has none.
    """
    files = list_images(folder)
    if not files:
        raise DataError(f"class folder {folder} has no image: add some, or remove the folder")
    return files


def seeded_split(names: Sequence[str], fraction: float, seed: int, key: str) -> tuple[list[int], list[int]]:
    """Split the positions of `names` into sorted ones for training and for testing.

    Files are ranked by a hash of seed, key and name, so that the split depends neither on the order in which a disk
    lists files nor on a library's random stream. Of two files or more, each side gets at least one.
    """
    ranked = sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}/{key}/{names[i]}".encode()).digest())
    held_out = min(max(1, round(fraction * len(names))), len(names) - 1)
    return sorted(ranked[held_out:]), sorted(ranked[:held_out])


def _root(argument: str, options: DataOptions) -> Path:
    if not argument and options.root is None:
        raise InvalidOptionError("imagefolder needs a folder: imagefolder:PATH")
    root = (options.root or Path()) / Path(argument).expanduser()
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root} {problem}: give an existing folder, imagefolder:PATH")
    return root


def _splits(root: Path, options: DataOptions) -> list[tuple[Classes, Path]]:
    """Images for training and for testing, each with its folder."""
    # A class may be called "train" (vehicles): only a folder that holds folders is a split.
    present = [name for name in ("train", *TEST_FOLDERS) if _has_folders(root / name)]
    if not present:
        return [(classes, root) for classes in _split_tree(root, options)]
    if "train" not in present or len(present) == 1:
        wanted = "train/" if "train" not in present else "val/ or test/"
        raise DataError(
            f"{root} has {present[0]}/ and no {wanted}: add it, or give imagefolder:{root / present[0]} to hold a share "
            "of it out for testing (test_fraction)"
        )
    folders = root / "train", root / present[1]
    train, test = map(read_classes, folders)
    spelt, spelt_test = ({comparable(name): name for name in classes} for classes in (train, test))
    for key in sorted(spelt.keys() ^ spelt_test.keys()):
        name = spelt.get(key) or spelt_test[key]
        here, there = folders if name in train else reversed(folders)
        raise DataError(f"class {name!r} is in {here} and not in {there}: give both splits the same class folders")
    test = {name: test[spelt_test[key]] for key, name in spelt.items()}
    return list(zip((train, test), folders, strict=True))


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def _split_tree(root: Path, options: DataOptions) -> tuple[Classes, Classes]:
    train: Classes = {}
    test: Classes = {}
    for name, files in read_classes(root).items():
        if len(files) < 2:
            raise DataError(
                f"class folder {root / name} has one image, but a split needs at least two: add images, or remove the folder"
            )
        names = [path.relative_to(root / name).as_posix() for path in files]
        kept, held_out = seeded_split(names, options.test_fraction, options.split_seed, name)
        train[name], test[name] = [files[i] for i in kept], [files[i] for i in held_out]
    return train, test


def _choose_form(files: Sequence[Path], options: DataOptions) -> Form:
    """Form from the options; a size or kind that was not chosen comes from the first header, and all files must share it."""
    if options.image_size is not None and options.grayscale is not None:
        return Form(options.image_size, 1 if options.grayscale else 3)
    headers = _some_headers(files, options.skip_unreadable)
    first = headers[0]
    if options.image_size is None and first.size[0] != first.size[1]:
        raise DataError(f"{first.path} is {first.size[0]}x{first.size[1]}, not a square: choose a size with image_size")
    grayscale = first.kind == "grayscale" if options.grayscale is None else options.grayscale
    form = Form(
        options.image_size or first.size[0],
        1 if grayscale else 3,
        like=first,
        same_kind=options.grayscale is None,
        same_size=options.image_size is None,
    )
    for header in headers[1:]:
        check_alike(header, form)
    return form


def _some_headers(files: Sequence[Path], skip_unreadable: bool) -> list[Header]:
    """Headers of files spread over all classes: a cheap way to find a mixed folder before decoding it."""
    headers = []
    for path in files[:: max(1, len(files) // _HEADERS_LOOKED_AT)]:
        try:
            headers.append(read_header(path))
        except UnreadableImageError:
            if not skip_unreadable:
                raise
    if not headers:
        raise DataError(f"none of the images around {files[0]} can be read: replace them")
    return headers

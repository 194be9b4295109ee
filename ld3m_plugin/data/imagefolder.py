"""`imagefolder:PATH`: a user's own images, one folder per class.

Two layouts are read. `PATH/train/CLASS/...` with `PATH/val/CLASS/...` (or, without val/, `PATH/test/`): the given split;
`split_folders.py` says which other names these may have. `PATH/CLASS/...`, or `PATH/train/` alone: a share of each class is held
out for testing. Classes are the folders' names in sorted order, compared between splits as `class_names.py` says; a WordNet id (n
and eight digits) as a name is recorded as one. `picture_listing.py` says which files are read, `decode.py` reads them as RGB or
grey, channels first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ld3m_plugin.data.class_names import comparable, same_names
from ld3m_plugin.data.decode import Form, Header, UnreadableImageError, check_alike, read_header
from ld3m_plugin.data.files import Classes, open_splits, readable
from ld3m_plugin.data.picture_listing import LeftOut, check_folder, expanded, has_loose_images, real_images, subfolders
from ld3m_plugin.data.split_folders import Layout, find_layout
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.images.image_options import DataOptions, FolderOptions
from ld3m_plugin.options import takes
from ld3m_plugin.task import Task

_WORDNET_ID = re.compile(r"n\d{8}")
_HEADERS_LOOKED_AT = 64


@takes(FolderOptions)
def load(argument: str, options: DataOptions) -> Task:
    """Read a folder of images.

    Mean and standard deviation are those of the training images (of a seeded sample of 2,000 if there are more).

    Args:
        argument: the folder, relative to `options.root` if that is given.
        options: without `image_size`, all images must be squares of one size; without `grayscale`, of one kind.

    Raises:
        DataError: the folder or a split is missing, a class is empty, classes differ between the splits, the splits are the same
            pictures, a file cannot be read, or images differ in kind or size. The message names the path.
        InvalidOptionError: no folder was given.
    """
    left_out = LeftOut()
    layout = find_layout(_root(argument, options), left_out)
    if layout.test is None:
        splits, form, decoded = _held_out(layout.train, options, left_out)
    else:
        splits, form, decoded = _given((layout.train, layout.test), options, left_out)
    opened = open_splits(splits, form, left_out, decoded)
    mean, std = channel_statistics(opened.train)
    names = tuple(splits[0][0])
    return Task(
        name=f"imagefolder:{argument}",
        source=f"imagefolder {layout.root} ({_described(layout, options)}): {opened.counts}",
        class_names=names,
        wordnet_ids=tuple(name if _WORDNET_ID.fullmatch(name) else None for name in names),
        mean=mean,
        std=std,
        image_size=form.size,
        train=opened.train,
        test_images=opened.test,
        notes=opened.notes,
    )


def read_classes(folder: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Class name -> image files, sorted, of a folder with one subfolder per class.

    Raises:
        DataError: the folder has no subfolders, one without an image or with a name that is not UTF-8, two that are one folder
            or whose names are spellings of one name, or a link makes one file a picture of two classes.
    """
    folders = subfolders(folder, left_out)
    if not folders:
        loose = " holds image files but" if has_loose_images(folder) else ""
        raise DataError(f"{folder}{loose} has no class folders: put the images of each class into a folder of its own")
    for entry in folders:
        _check_class_name(entry)
    if same := same_names(entry.name for entry in folders):
        first, second = (folder / name for name in same)
        raise DataError(
            f"class folders {first} and {second} have the same name (case, Unicode form and the separators - _ / and space "
            "do not count): rename one, or put the images of both into one folder"
        )
    real: dict[Path, Path] = {}
    for entry in folders:
        if (other := real.setdefault(entry.resolve(), entry)) != entry:
            raise DataError(f"class folders {other} and {entry} are one folder: remove the link")
    return _apart({entry.name: _class_files(entry, left_out) for entry in folders})


def class_files(folder: Path, left_out: LeftOut) -> list[Path]:
    """Image files of one class, sorted.

    Raises:
        DataError: the folder has none; the message says what else is there.
    """
    return sorted(_class_files(folder, left_out).values())


def _class_files(folder: Path, left_out: LeftOut) -> dict[Path, Path]:
    here = LeftOut()
    files = real_images(folder, here)
    if not files:
        raise DataError(f"{here.after(f'class folder {folder} has no image')}: add some, or remove the folder")
    left_out.merge(here)
    return files


def _apart(classes: dict[str, dict[Path, Path]]) -> dict[str, list[Path]]:
    """Class name -> image files, sorted; a file that lies in two classes would have two labels."""
    owner: dict[Path, Path] = {}
    for files in classes.values():
        for real, path in files.items():
            if (other := owner.setdefault(real, path)) is not path:
                raise DataError(f"{other} and {path} are one file in two classes: remove the link")
    return {name: sorted(files.values()) for name, files in classes.items()}


def seeded_split(names: Sequence[str], fraction: float, seed: int, key: str) -> tuple[list[int], list[int]]:
    """Split the positions of `names` into sorted ones for training and for testing.

    Files are ranked by a hash of seed, key and name, so that the split depends neither on the order in which a disk
    lists files nor on a library's random stream. Of two files or more, each side gets at least one.
    """
    ranked = sorted(range(len(names)), key=lambda i: _rank(f"{seed}/{key}/{names[i]}"))
    held_out = min(max(1, round(fraction * len(names))), len(names) - 1)
    return sorted(ranked[held_out:]), sorted(ranked[:held_out])


def _rank(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _root(argument: str, options: DataOptions) -> Path:
    if not argument and options.root is None:
        raise InvalidOptionError("imagefolder needs a folder: imagefolder:PATH")
    root = (options.root or Path()) / expanded(Path(argument))
    check_folder(root, "give an existing folder, imagefolder:PATH")
    return root


def _described(layout: Layout, options: DataOptions) -> str:
    train, test = (path and path.relative_to(layout.root) for path in (layout.train, layout.test))
    if test is not None:
        return f"{train}/ and {test}/"
    where = "" if layout.train == layout.root else f"{train}/, "
    return f"{where}{options.test_fraction:g} of each class held out, seed {options.split_seed}"


def _check_class_name(folder: Path) -> None:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        shown = str(folder).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise DataError(f"the name of class folder {shown} is not UTF-8: rename the folder") from error


_Read = tuple[list[tuple[Classes, Path]], Form, dict[Path, Tensor]]


def _given(folders: tuple[Path, Path], options: DataOptions, left_out: LeftOut) -> _Read:
    """Files of the given splits with their folders, the form of all images, and those images that had to be decoded for this."""
    decoded: dict[Path, Tensor] = {}
    train, test = (read_classes(folder, left_out) for folder in folders)
    spelt, spelt_test = ({comparable(name): name for name in classes} for classes in (train, test))
    for key in sorted(spelt.keys() ^ spelt_test.keys()):
        name = spelt.get(key) or spelt_test[key]
        here, there = folders if name in train else reversed(folders)
        raise DataError(f"class {name!r} is in {here} and not in {there}: give both splits the same class folders")
    test = {name: test[spelt_test[key]] for key, name in spelt.items()}
    form = _choose_form(train, options)
    if options.skip_unreadable:
        (train, decoded), (test, more) = (readable(classes, form, left_out) for classes in (train, test))
        decoded |= more
    return list(zip((train, test), folders, strict=True)), form, decoded


def _held_out(root: Path, options: DataOptions, left_out: LeftOut) -> _Read:
    """The same from one tree of classes, of which a share is held out."""
    decoded: dict[Path, Tensor] = {}
    classes = read_classes(root, left_out)
    form = _choose_form(classes, options)
    if options.skip_unreadable:  # before the split: shares and seeds are those of the files that are used
        classes, decoded = readable(classes, form, left_out)
    train, test = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            has = "one image, but a split needs at least two" if files else "no image that can be read"
            raise DataError(f"class {name!r} in folder {root / name} has {has}: add images, or remove the folder")
        names = [path.relative_to(root / name).as_posix() for path in files]
        kept, held_out = seeded_split(names, options.test_fraction, options.split_seed, name)
        train[name], test[name] = [files[i] for i in kept], [files[i] for i in held_out]
    return [(train, root), (test, root)], form, decoded


def _choose_form(classes: Classes, options: DataOptions) -> Form:
    """Form from the options; a size or kind that was not chosen comes from the first header, and all files must share it."""
    if options.image_size is not None and options.grayscale is not None:
        return Form(options.image_size, 1 if options.grayscale else 3)
    headers = _some_headers([path for files in classes.values() for path in files], options.skip_unreadable)
    first = headers[0]
    if options.image_size is None and options.grayscale is None:
        _check_not_both(headers)
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


def _check_not_both(headers: Sequence[Header]) -> None:
    """Raise one error for two facts: images differ in kind, and a size must be chosen as well."""
    first = headers[0]
    other_kind = next((header for header in headers if header.kind != first.kind), None)
    other_size = next(
        (header for header in headers if header.size != first.size or header.size[0] != header.size[1]), None
    )
    if other_kind is not None and other_size is not None:
        sizes = " and ".join(f"{header.size[0]}x{header.size[1]}" for header in dict.fromkeys((first, other_size)))
        raise DataError(
            f"images differ in kind ({first.path} is {first.kind}, {other_kind.path} is {other_kind.kind}) and in size, or are "
            f"no squares ({sizes}): choose both with image_size and grayscale=true or grayscale=false"
        )


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

"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747): the full set if it is found, else the embedded subset.

The same four IDX files come from three sources: torchvision's folder, Debian's package `dataset-fashion-mnist`, and the
subset in this package (made by `scripts/make_embedded_fashion_mnist.py`).
"""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.data.fashion_mnist_known import DIGESTS, check_is_fashion, is_published
from ld3m_plugin.data.idx import idx_digest, read_idx
from ld3m_plugin.data.memory import InMemoryImages, by_class, reshaped
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.options import takes
from ld3m_plugin.task import ImageOptions, Task

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
#: Of the 60,000 training images at 28x28; published results normalise with these.
MEAN, STD = 0.2861, 0.3530

TORCHVISION_FOLDER = Path("FashionMNIST", "raw")
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "fashion-mnist"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SIDE, _PADDED = 28, 32
_FULL = {"train": 60_000, "test": 10_000}


@takes(ImageOptions)
def load(argument: str, options: ImageOptions) -> Task:
    """Read Fashion-MNIST.

    Images are 28x28 with one grey channel, by default centred in a black 32x32 square. `image_size=28` leaves them
    unpadded; any other size resizes the padded square (bilinear, antialiased). `grayscale=False` repeats the channel three
    times.

    Args:
        argument: "" (the full set if it is found, else the embedded one), "full" or "embedded".
        options: `root` is a folder with the four IDX files, or one with torchvision's `FashionMNIST/raw`.

    Raises:
        DataError: the chosen copy is missing, incomplete, damaged, or another data set.
        InvalidOptionError: the argument is unknown, or `root` is given with "embedded".
    """
    folder = _choose(argument, options.root)
    (train, digests), (test, more) = (_read_split(folder, split) for split in ("train", "test"))
    source = _describe(folder, (train, test), digests | more, argument)
    size = options.image_size or _PADDED
    channels = 3 if options.grayscale is False else 1
    pad = None if size == _SIDE else _PADDED
    return Task(
        name="fashion-mnist" + (f":{argument}" if argument else ""),
        source=source,
        class_names=CLASS_NAMES,
        wordnet_ids=(None,) * len(CLASS_NAMES),
        mean=(MEAN,) * channels,
        std=(STD,) * channels,
        image_size=size,
        train=reshaped(train, channels, size, pad),
        test_images=reshaped(test, channels, size, pad),
    )


def _choose(argument: str, root: Path | None) -> Path:
    if argument not in ("", "full", "embedded"):
        raise InvalidOptionError(
            f"fashion-mnist has no copy {argument!r}: give fashion-mnist, fashion-mnist:full or :embedded"
        )
    if argument == "embedded":
        if root is not None:
            raise InvalidOptionError("fashion-mnist:embedded is part of this package: leave out root")
        return EMBEDDED_FOLDER
    places = [Path("data") / TORCHVISION_FOLDER, DEBIAN_FOLDER] if root is None else [root, root / TORCHVISION_FOLDER]
    for place in places:
        if not _missing(place):
            return place
    if root is None and not argument:
        return EMBEDDED_FOLDER
    looked = "; ".join(f"{place}: {_state(place)}" for place in places)
    raise DataError(
        f"no full Fashion-MNIST ({looked}). Install Debian's package dataset-fashion-mnist, or download it with "
        'torchvision.datasets.FashionMNIST("data", download=True); fashion-mnist:embedded needs neither'
    )


def _missing(folder: Path) -> list[str]:
    return [name for names in FILES.values() for name in names if not _file(folder, name).is_file()]


def _file(folder: Path, name: str) -> Path:
    """The plain file if it exists, else the compressed one."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _state(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    missing = _missing(folder)
    return "none of the four files" if len(missing) == 4 else f"lacks {', '.join(missing)} (plain or .gz)"


def _read_split(folder: Path, split: str) -> tuple[InMemoryImages, dict[str, str]]:
    """Images of a split, and digests of its files where it has as many as the whole set."""
    images_path, labels_path = (_file(folder, name) for name in FILES[split])
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(f"{images_path} has images of {images.shape[1]}x{images.shape[2]}, not 28x28: get it again")
    is_whole = len(images) == _FULL[split]
    digests = {
        name: idx_digest(values) for name, values in zip(FILES[split], (images, labels), strict=True) if is_whole
    }
    return by_class(images.unsqueeze(1), labels, CLASS_NAMES, str(images_path)), digests


def _describe(
    folder: Path, splits: tuple[InMemoryImages, InMemoryImages], digests: dict[str, str], argument: str
) -> str:
    """`Task.source`; checks that the files are what was asked for, and Fashion-MNIST at all."""
    train, test = (sum(images.counts()) for images in splits)
    if folder == EMBEDDED_FOLDER:
        return f"fashion-mnist embedded subset ({train} train, {test} test)"
    if is_published(digests):
        return f"fashion-mnist full ({train} train, {test} test) from {folder}"
    for images in splits:
        check_is_fashion(images, folder)
    if argument == "full":
        differs = [name for name in digests if digests[name] != DIGESTS[name]]
        problem = f"{train} training and {test} test images, not the full Fashion-MNIST (60000, 10000)"
        if len(digests) == len(DIGESTS):
            problem = f"other content in {', '.join(differs)} than the published Fashion-MNIST"
        raise DataError(f"{folder} has {problem}: get it again, or give fashion-mnist without :full")
    extent = "changed" if len(digests) == len(DIGESTS) else "partial"
    return f"fashion-mnist {extent} ({train} train, {test} test) from {folder}"

"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747): the full set where it is found, else a subset.

Three sources have the same four files, so one reader serves all: torchvision's folder, Debian's package
`dataset-fashion-mnist`, and the subset in this package (made by `scripts/make_embedded_fashion_mnist.py`).
"""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.data.idx import read_idx
from ld3m_plugin.data.memory import InMemoryImages, by_class, reshaped
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions, Task

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
#: Of the 60,000 training images as they are, 28x28: what published results normalise with.
MEAN, STD = 0.2861, 0.3530

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "fashion-mnist"
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SIDE, _PADDED = 28, 32
_FULL = (60_000, 10_000)


def load(argument: str, options: DataOptions) -> Task:
    """The task of Fashion-MNIST.

    Images are 28x28 in grayscale. By default they are put in the middle of a black 32x32 square; `image_size=28` leaves
    them as they are, any other size resizes the padded square (bilinear, antialiased). `grayscale=False` repeats the
    channel three times.

    Args:
        argument: "" (the full set if it is found, else the embedded one), "full" or "embedded".
        options: `root` is a folder with the four IDX files, or one that holds torchvision's `FashionMNIST/raw`.

    Raises:
        DataError: the chosen copy is not there, incomplete or damaged.
        InvalidOptionError: another argument, or `root` together with "embedded".
    """
    folder = _choose(argument, options.root)
    train, test = (_read_split(folder, split) for split in ("train", "test"))
    size = options.image_size or _PADDED
    channels = 3 if options.grayscale is False else 1
    pad = None if size == _SIDE else _PADDED
    return Task(
        name="fashion-mnist" + (f":{argument}" if argument else ""),
        source=_describe(folder, sum(train.counts()), sum(test.counts()), argument),
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
        raise InvalidOptionError(f"fashion-mnist:{argument}: after the colon stands nothing, full or embedded")
    if argument == "embedded":
        if root is not None:
            raise InvalidOptionError("fashion-mnist:embedded is part of this package and takes no root")
        return EMBEDDED_FOLDER
    usual = [*_torchvision_folders(Path("data")), DEBIAN_FOLDER]
    places = usual if root is None else [root, *_torchvision_folders(root)]
    for place in places:
        if not _missing(place):
            return place
    if root is None and not argument:
        return EMBEDDED_FOLDER
    raise DataError(_not_found(places))


def _torchvision_folders(root: Path) -> list[Path]:
    return [root / "FashionMNIST" / "raw"]


def _missing(folder: Path) -> list[str]:
    return [name for names in FILES.values() for name in names if _file(folder, name) is None]


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _not_found(places: list[Path]) -> str:
    looked = "; ".join(f"{place}: " + _state(place) for place in places)
    return (
        f"no full Fashion-MNIST ({looked}). Install Debian's package dataset-fashion-mnist, or let torchvision "
        'fetch it: torchvision.datasets.FashionMNIST("data", download=True); fashion-mnist:embedded needs neither'
    )


def _state(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    missing = _missing(folder)
    return "has none of the four files" if len(missing) == 4 else f"lacks {', '.join(missing)} (plain or .gz)"


def _read_split(folder: Path, split: str) -> InMemoryImages:
    paths = [_file(folder, name) for name in FILES[split]]
    if paths[0] is None or paths[1] is None:
        raise DataError(f"the {split} split of Fashion-MNIST in {folder} {_state(folder)}")
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(f"{paths[0]} has images of {images.shape[1]}x{images.shape[2]}, not 28x28")
    return by_class(images.unsqueeze(1), labels, CLASS_NAMES, str(paths[0]))


def _describe(folder: Path, train: int, test: int, argument: str) -> str:
    if folder == EMBEDDED_FOLDER:
        return f"fashion-mnist embedded subset ({train} train, {test} test)"
    if (train, test) != _FULL and argument == "full":
        raise DataError(
            f"{folder} holds {train} training and {test} test images, not the full Fashion-MNIST (60000, 10000)"
        )
    extent = "full" if (train, test) == _FULL else "partial"
    return f"fashion-mnist {extent} ({train} train, {test} test) from {folder}"

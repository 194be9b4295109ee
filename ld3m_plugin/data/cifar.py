"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from torchvision's folder, or from the official archives as they are.

The python version (`cifar-10-batches-py`, what torchvision fetches) and the binary version (`cifar-10-batches-bin`) are
read, each as a folder or as its `.tar.gz`, which is not unpacked to disk. Pickles are read without running anything
(`safe_pickle`). Nothing is ever downloaded here.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ld3m_plugin.data.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES
from ld3m_plugin.data.memory import InMemoryImages, by_class, reshaped
from ld3m_plugin.data.safe_pickle import load_arrays
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions, Task

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
#: The largest official file is 155 MB; a larger member of an archive is not read.
_LARGEST_FILE = 256 * 2**20


@dataclass(frozen=True)
class Variant:
    """How one of the two data sets is stored.

    Attributes:
        train, test: file names (without the binary version's `.bin`) and how many images each holds.
        label_bytes: bytes before the pixels of an image in the binary version; the last one is the label.
        label_key: where the python version has the labels.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    binary: str
    binary_archive: str
    python: str
    python_archive: str
    train: dict[str, int]
    test: dict[str, int]
    label_bytes: int
    label_key: str


CIFAR10 = Variant(
    name="cifar10",
    title="CIFAR-10",
    class_names=CIFAR10_CLASSES,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    binary="cifar-10-batches-bin",
    binary_archive="cifar-10-binary.tar.gz",
    python="cifar-10-batches-py",
    python_archive="cifar-10-python.tar.gz",
    train={f"data_batch_{number}": 10_000 for number in range(1, 6)},
    test={"test_batch": 10_000},
    label_bytes=1,
    label_key="labels",
)
CIFAR100 = Variant(
    name="cifar100",
    title="CIFAR-100",
    class_names=CIFAR100_CLASSES,
    mean=(0.5071, 0.4866, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    binary="cifar-100-binary",
    binary_archive="cifar-100-binary.tar.gz",
    python="cifar-100-python",
    python_archive="cifar-100-python.tar.gz",
    train={"train": 50_000},
    test={"test": 10_000},
    label_bytes=2,  # the coarse label comes first
    label_key="fine_labels",
)


def load_cifar10(argument: str, options: DataOptions) -> Task:
    """The task of CIFAR-10; see `load_variant`."""
    return _load(CIFAR10, argument, options)


def load_cifar100(argument: str, options: DataOptions) -> Task:
    """The task of CIFAR-100 with its 100 fine classes; see `load_variant`."""
    return _load(CIFAR100, argument, options)


def _load(variant: Variant, argument: str, options: DataOptions) -> Task:
    if argument:
        raise InvalidOptionError(
            f"{variant.name} takes nothing after the colon, got {argument!r}; the folder is root=PATH"
        )
    return load_variant(variant, options)


def load_variant(variant: Variant, options: DataOptions) -> Task:
    """Read one of the two sets.

    Args:
        variant: which one.
        options: `root` is torchvision's root, or the folder of batches itself; default `data`. In grayscale, mean and
            standard deviation are computed, as the published ones are of colours.

    Raises:
        DataError: not found (the message says where it looked and what to put there), incomplete, or damaged.
    """
    place, binary = _find(variant, options.root or Path("data"))
    train, test = (_read_split(variant, place, binary, files) for files in (variant.train, variant.test))
    channels = 1 if options.grayscale else 3
    size = options.image_size or _SIDE
    images = reshaped(train, channels, size)
    mean, std = channel_statistics(images) if options.grayscale else (variant.mean, variant.std)
    return Task(
        name=variant.name,
        source=f"{variant.name} ({sum(train.counts())} train, {sum(test.counts())} test) from {place}",
        class_names=variant.class_names,
        wordnet_ids=(None,) * len(variant.class_names),
        mean=mean,
        std=std,
        image_size=size,
        train=images,
        test_images=reshaped(test, channels, size),
    )


def _find(variant: Variant, root: Path) -> tuple[Path, bool]:
    """The first copy that is there, and whether it is the binary version."""
    first = next(iter(variant.train))
    for folder in (root / variant.binary, root):
        if (folder / f"{first}.bin").is_file():
            return folder, True
    for folder in (root / variant.python, root):
        if (folder / first).is_file():
            return folder, False
    for archive, binary in ((variant.binary_archive, True), (variant.python_archive, False)):
        if (root / archive).is_file():
            return root / archive, binary
    raise DataError(
        f"no {variant.title} in {root}: put {variant.python}/ or {variant.binary}/ there, or "
        f"{variant.python_archive} or {variant.binary_archive} as it is, or give root=PATH; torchvision fetches it "
        f'with torchvision.datasets.{variant.name.upper()}("{root}", download=True)'
    )


def _read_split(variant: Variant, place: Path, binary: bool, files: dict[str, int]) -> InMemoryImages:
    names = [name + (".bin" if binary else "") for name in files]
    contents = (_from_folder if place.is_dir() else _from_archive)(place, names)
    parse: Callable[[Variant, bytes, Path], tuple[Tensor, Tensor]] = _parse_binary if binary else _parse_python
    parts = [parse(variant, data, place / name) for name, data in zip(names, contents, strict=True)]
    for name, expected, (images, _) in zip(names, files.values(), parts, strict=True):
        if len(images) != expected:
            raise DataError(f"{place / name} holds {len(images)} images, {expected} are expected: get it again")
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return by_class(images, labels, variant.class_names, str(place))


def _from_folder(folder: Path, names: Sequence[str]) -> list[bytes]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: get it again")
    return [(folder / name).read_bytes() for name in names]


def _from_archive(archive: Path, names: Sequence[str]) -> list[bytes]:
    """Members by their file name, read in one pass; nothing is written, so member paths cannot escape a folder."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = Path(member.name).name
                file = tar.extractfile(member) if member.isfile() and name in names else None
                if file is not None:
                    found[name] = file.read(_LARGEST_FILE)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {archive}: {error}; get it again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}: get it again")
    return [found[name] for name in names]


def _parse_binary(variant: Variant, data: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) and labels (n,) of rows of label bytes and 3,072 pixels, red, green, blue."""
    row = variant.label_bytes + _PIXELS
    if not data or len(data) % row:
        raise DataError(f"{path} has {len(data)} bytes, not a multiple of {row}: get it again")
    rows = torch.from_numpy(numpy.frombuffer(bytearray(data), numpy.uint8)).view(-1, row)
    return rows[:, variant.label_bytes :].reshape(-1, 3, _SIDE, _SIDE), rows[:, variant.label_bytes - 1].long()


def _parse_python(variant: Variant, data: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """The same from a pickled dictionary with `data` (n, 3072) and a list of labels."""
    batch = load_arrays(data, path)
    if not isinstance(batch, dict):
        batch = {}
    pixels, labels = batch.get("data"), batch.get(variant.label_key)
    if not (
        isinstance(pixels, numpy.ndarray)
        and pixels.dtype == numpy.uint8
        and pixels.shape[1:] == (_PIXELS,)
        and isinstance(labels, list)
        and all(isinstance(label, int) and 0 <= label < len(variant.class_names) for label in labels)
    ):
        raise DataError(f"{path} is not a {variant.title} batch: it lacks data (n, {_PIXELS}) or {variant.label_key}")
    return torch.from_numpy(pixels.copy()).view(-1, 3, _SIDE, _SIDE), torch.tensor(labels)

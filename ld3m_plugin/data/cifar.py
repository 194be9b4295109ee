"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from torchvision's folder, or from the official archives as they are.

Reads the python version (`cifar-10-batches-py`, which torchvision downloads) and the binary version
(`cifar-10-batches-bin`), each as a folder or as its `.tar.gz`, which is not unpacked to disk. Both store RGB, channels first.
Pickles are read without running anything in them (`safe_pickle`); torchvision's reader would run them.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from ld3m_plugin.data.memory import LARGEST_FILE, InMemoryImages, by_class, open_data, reshaped
from ld3m_plugin.data.safe_pickle import load_arrays
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.options import takes
from ld3m_plugin.task import ImageOptions, Task

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
#: Names of the classes in label order.
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(
    (Path(__file__).parent / "embedded" / "cifar100-classes.txt").read_text(encoding="ascii").split()
)


@dataclass(frozen=True)
class Variant:
    """How one of the two data sets is stored.

    Attributes:
        title: its name; in lower case, the beginning of the archives' names.
        binary, python: folders of the two versions.
        train, test: file name (without the binary version's `.bin`) -> number of images.
        label_bytes: bytes before the pixels of an image in the binary version; the last one is the label.
        label_key: key of the labels in the python version.
    """

    title: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    binary: str
    python: str
    train: dict[str, int]
    test: dict[str, int]
    label_bytes: int
    label_key: str

    @property
    def name(self) -> str:
        """The registered name."""
        return self.title.lower().replace("-", "")

    @property
    def archives(self) -> tuple[str, str]:
        """Archives of the binary and the python version."""
        return f"{self.title.lower()}-binary.tar.gz", f"{self.title.lower()}-python.tar.gz"


CIFAR10 = Variant(
    title="CIFAR-10",
    class_names=CIFAR10_CLASSES,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    binary="cifar-10-batches-bin",
    python="cifar-10-batches-py",
    train={f"data_batch_{number}": 10_000 for number in range(1, 6)},
    test={"test_batch": 10_000},
    label_bytes=1,
    label_key="labels",
)
CIFAR100 = Variant(
    title="CIFAR-100",
    class_names=CIFAR100_CLASSES,
    mean=(0.5071, 0.4866, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    binary="cifar-100-binary",
    python="cifar-100-python",
    train={"train": 50_000},
    test={"test": 10_000},
    label_bytes=2,  # the coarse label comes first
    label_key="fine_labels",
)


@takes(ImageOptions)
def load_cifar10(argument: str, options: ImageOptions) -> Task:
    """CIFAR-10; see `load_variant`."""
    return load_variant(CIFAR10, argument, options)


@takes(ImageOptions)
def load_cifar100(argument: str, options: ImageOptions) -> Task:
    """CIFAR-100 with its 100 fine classes; see `load_variant`."""
    return load_variant(CIFAR100, argument, options)


def load_variant(variant: Variant, argument: str, options: ImageOptions) -> Task:
    """Read one of the two data sets.

    Args:
        variant: the data set.
        argument: must be empty.
        options: `root` is torchvision's root, or the folder of batches itself; default `data`. With `grayscale`, mean and
            standard deviation are computed from the images: the published ones are for RGB.

    Raises:
        DataError: the files are missing (the message says where they were looked for and what to do), incomplete or
            damaged.
        InvalidOptionError: `argument` is not empty.
    """
    if argument:
        raise InvalidOptionError(
            f"{variant.name}:{argument}: {variant.name} takes no argument; give the folder as root=PATH"
        )
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
    """Folder or archive of the first copy found, and whether it is the binary version."""
    first, archives = next(iter(variant.train)), variant.archives
    for version, ending, binary in ((variant.binary, ".bin", True), (variant.python, "", False)):
        for folder in (root / version, root):
            if (folder / f"{first}{ending}").is_file():
                return folder, binary
    for archive in archives:
        if (root / archive).is_file():
            return root / archive, archive == archives[0]
    raise DataError(
        f"no {variant.title} in {root}: put {variant.python}/ or {variant.binary}/ there, or the archive "
        f"{archives[1]} or {archives[0]}, or give root=PATH; to download it: "
        f'torchvision.datasets.{variant.name.upper()}("{root}", download=True)'
    )


def _read_split(variant: Variant, place: Path, binary: bool, files: dict[str, int]) -> InMemoryImages:
    parse = _parse_binary if binary else _parse_python
    parts = []
    contents = _read_files(place, [name + (".bin" if binary else "") for name in files])
    for (name, data), expected in zip(contents.items(), files.values(), strict=True):
        images, labels = parse(variant, data, place / name)
        if len(images) != expected:
            raise DataError(f"{place / name} has {len(images)} images instead of {expected}: get it again")
        parts.append((images, labels))
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return by_class(images, labels, variant.class_names, str(place))


def _read_files(place: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents of the files `names`, in that order, in a folder or a `.tar.gz`."""
    try:
        if place.is_dir():
            found = {name: _content(place / name) for name in names if (place / name).is_file()}
        else:
            with tarfile.open(fileobj=io.BytesIO(_content(place, packed=True))) as tar:
                found = dict(_members(tar, names))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {place}: {error}; get it again") from error
    except MemoryError as error:
        raise DataError(f"{place} needs more memory than there is") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{place} lacks {', '.join(missing)}: get it again")
    return {name: found[name] for name in names}


def _content(path: Path, *, packed: bool = False) -> bytes:
    """The content of a file, or what it unpacks to: a small archive may unpack to anything."""
    with open_data(path, packed=packed) as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise DataError(f"{path} is larger than {LARGEST_FILE} bytes (uncompressed): get it again")
    return content


def _members(tar: tarfile.TarFile, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Members by file name, read in one pass. Nothing is written, so member paths cannot escape a folder."""
    for member in tar:
        name = Path(member.name).name
        if member.isfile() and name in names and (file := tar.extractfile(member)) is not None:
            yield name, file.read(LARGEST_FILE)


def _parse_binary(variant: Variant, data: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) and labels (n,) from rows of label bytes and 3,072 pixels: all red, all green, all blue."""
    row = variant.label_bytes + _PIXELS
    if not data or len(data) % row:
        raise DataError(f"{path} has {len(data)} bytes, not a multiple of {row}: get it again")
    rows = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, row)
    return rows[:, variant.label_bytes :].reshape(-1, 3, _SIDE, _SIDE), rows[:, variant.label_bytes - 1].long()


def _parse_python(variant: Variant, data: bytes, path: Path) -> tuple[Tensor, Tensor]:
    """The same from a pickled dictionary with `data` (n, 3072) and a list of labels."""
    batch = load_arrays(data, path)
    pixels, labels = (batch.get(key) if isinstance(batch, dict) else None for key in ("data", variant.label_key))
    if not (
        isinstance(pixels, numpy.ndarray)
        and pixels.dtype == numpy.uint8
        and pixels.shape[1:] == (_PIXELS,)
        and isinstance(labels, list)
        and len(labels) == len(pixels)  # a shape alone costs no bytes in a file, and the copy below costs all of it
        and all(isinstance(label, int) and 0 <= label < len(variant.class_names) for label in labels)
    ):
        raise DataError(
            f"{path} is not a {variant.title} batch: it lacks data (n, {_PIXELS}) or {variant.label_key}; get it again"
        )
    return torch.from_numpy(pixels.copy()).view(-1, 3, _SIDE, _SIDE), torch.tensor(labels)

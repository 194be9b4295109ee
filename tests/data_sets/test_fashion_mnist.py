"""Fashion-MNIST: the embedded subset, the full set, and the choice between them."""

import gzip
import hashlib
import re
import shutil
import struct
import time

import numpy
import pytest
import torch
import torchvision

from ld3m_plugin.data import fashion_mnist
from ld3m_plugin.data.fashion_mnist import DEBIAN_FOLDER, EMBEDDED_FOLDER, FILES, load
from ld3m_plugin.data.fashion_mnist_known import CLASS_MEANS, DIGESTS
from ld3m_plugin.data.idx import idx_digest, read_idx
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions

FULL_IMAGES = "train-images-idx3-ubyte.gz"


def skip_without_the_package():
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """A machine without the full set."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "no-package")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_small(folder, train=20, test=10, side=28):
    folder.mkdir(parents=True, exist_ok=True)
    for (images, labels), count in zip(FILES.values(), (train, test), strict=True):
        (folder / images).write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, count, side, side) + b"\1" * count * side * side)
        data = bytes(n % 10 for n in range(count))
        (folder / f"{labels}.gz").write_bytes(gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, count) + data))


def test_the_embedded_subset_is_small_complete_and_carries_its_licence():
    sizes = {path.name: path.stat().st_size for path in EMBEDDED_FOLDER.iterdir()}
    assert set(sizes) == {f"{name}.gz" for names in FILES.values() for name in names} | {"NOTICE"}
    assert sum(sizes.values()) < 12_000_000
    notice = (EMBEDDED_FOLDER / "NOTICE").read_text()
    assert "Zalando SE" in notice
    assert "Permission is hereby granted" in notice


def test_the_embedded_task():
    start = time.perf_counter()
    task = load("embedded", DataOptions())
    assert time.perf_counter() - start < 5
    assert task.source == "fashion-mnist embedded subset (12000 train, 10000 test)"
    assert task.train.counts() == (1200,) * 10
    assert task.test.counts() == (1000,) * 10
    assert (task.num_classes, task.channels, task.image_size) == (10, 1, 32)
    images = task.train.read(3, torch.tensor([5, 0]))
    assert images.shape == (2, 1, 32, 32)
    assert images.dtype == torch.uint8
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[2:30, 2:30] = True
    assert (images[..., ~inside] == 0).all()
    assert (images[..., inside] > 0).any()


def test_the_embedded_files_are_part_of_the_full_set():
    skip_without_the_package()
    images, labels = (
        read_idx(EMBEDDED_FOLDER / f"{name}.gz", n) for name, n in zip(FILES["train"], (3, 1), strict=True)
    )
    all_images, all_labels = (
        read_idx(DEBIAN_FOLDER / f"{name}.gz", n) for name, n in zip(FILES["train"], (3, 1), strict=True)
    )
    # In the original order, so that one walk through the full set must meet every image of the subset.
    position = 0
    for image, label in zip(images.flatten(1).numpy(), labels.tolist(), strict=True):
        key = image.tobytes()
        while all_images[position].numpy().tobytes() != key or int(all_labels[position]) != label:
            position += 1
        position += 1
    for name, dimensions in zip(FILES["test"], (3, 1), strict=True):
        assert torch.equal(
            read_idx(EMBEDDED_FOLDER / f"{name}.gz", dimensions), read_idx(DEBIAN_FOLDER / f"{name}.gz", dimensions)
        )


def test_the_full_set_is_used_where_debian_has_it(tmp_path, monkeypatch):
    skip_without_the_package()
    monkeypatch.chdir(tmp_path)
    task = load("", DataOptions())
    assert task.source == f"fashion-mnist full (60000 train, 10000 test) from {DEBIAN_FOLDER}"
    assert task.train.counts() == (6000,) * 10
    assert (task.mean, task.std) == ((0.2861,), (0.3530,))
    mean, std = channel_statistics(InMemoryImages([read_idx(DEBIAN_FOLDER / FULL_IMAGES, 3).unsqueeze(1)], "x"), 60_000)
    assert abs(mean[0] - 0.2861) < 1e-4
    assert abs(std[0] - 0.3530) < 1e-4


def test_torchvision_reads_the_same_images_from_the_same_files(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for path in EMBEDDED_FOLDER.glob("*.gz"):
        with gzip.open(path) as packed, (folder / path.stem).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    theirs = torchvision.datasets.FashionMNIST(tmp_path, train=True)
    ours = load("", DataOptions(root=tmp_path, image_size=28))
    assert ours.source == f"fashion-mnist partial (12000 train, 10000 test) from {folder}"
    assert tuple(theirs.classes) == ours.class_names
    for index in range(10):
        got = ours.train.read(index, torch.arange(1200)).squeeze(1)
        assert torch.equal(got, theirs.data[theirs.targets == index])


def test_the_embedded_subset_is_used_where_nothing_else_is(nothing_installed):
    assert "embedded subset" in load("", DataOptions()).source


def test_torchvisions_folder_comes_first(nothing_installed):
    write_small(nothing_installed / "data" / "FashionMNIST" / "raw")
    task = load("", DataOptions())
    assert task.source == "fashion-mnist partial (20 train, 10 test) from data/FashionMNIST/raw"
    assert task.train.counts() == (2,) * 10


def test_a_root_may_hold_the_files_themselves(tmp_path):
    write_small(tmp_path)
    assert load("", DataOptions(root=tmp_path)).test.counts() == (1,) * 10


def test_asking_for_the_full_set_says_how_to_get_it(nothing_installed):
    with pytest.raises(DataError, match=r"no-package.*dataset-fashion-mnist.*torchvision") as caught:
        load("full", DataOptions())
    assert "data/FashionMNIST/raw" in str(caught.value)


def test_a_part_is_not_the_full_set(tmp_path):
    write_small(tmp_path)
    with pytest.raises(DataError, match=r"\b20\b.*\b10\b.*60000"):
        load("full", DataOptions(root=tmp_path))


def test_a_root_with_a_missing_split_is_an_error_that_names_the_files(tmp_path):
    write_small(tmp_path)
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.*t10k-labels-idx1-ubyte") as caught:
        load("", DataOptions(root=tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_another_image_size_in_the_file_is_an_error(tmp_path):
    write_small(tmp_path, side=32)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*32x32.*28x28"):
        load("", DataOptions(root=tmp_path))


def test_unknown_arguments_are_refused(tmp_path):
    with pytest.raises(InvalidOptionError, match="'small'"):
        load("small", DataOptions())
    with pytest.raises(InvalidOptionError, match=r"fashion-mnist:embedded.*root"):
        load("embedded", DataOptions(root=tmp_path))


@pytest.mark.parametrize(("size", "colour"), [(28, False), (16, True), (64, False)])
def test_sizes_and_colours(tmp_path, size, colour):
    write_small(tmp_path)
    task = load("", DataOptions(root=tmp_path, image_size=size, grayscale=not colour))
    channels = 3 if colour else 1
    assert (task.image_size, task.channels, len(task.std)) == (size, channels, channels)
    images = task.real_images(0, 2, torch.Generator())
    assert images.shape == (2, channels, size, size)
    border = task.denormalise(images)[..., 0, 0]
    torch.testing.assert_close(border, torch.full_like(border, 1 / 255 if size == 28 else 0.0), rtol=0, atol=1e-6)


# What is recognised ---------------------------------------------------------------------------------------------------

MNIST = (0.1731, 0.0760, 0.1491, 0.1415, 0.1214, 0.1287, 0.1375, 0.1145, 0.1502, 0.1226)  # means of the ten digits
KMNIST = (0.1918,) * 10


def write_means(folder, means, train=2000, test=100):
    """Four IDX files whose images are random and have the mean of their class."""
    folder.mkdir(parents=True)
    rng = numpy.random.default_rng(0)
    for (images, labels), count in zip(FILES.values(), (train, test), strict=True):
        classes = numpy.arange(count) % 10
        share = numpy.array(means, dtype=numpy.float32)[classes][:, None, None]
        pixels = ((rng.random((count, 28, 28), dtype=numpy.float32) < share) * 255).astype(numpy.uint8)
        (folder / images).write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + pixels.tobytes())
        (folder / labels).write_bytes(struct.pack(">4BI", 0, 0, 8, 1, count) + classes.astype(numpy.uint8).tobytes())
    return folder


@pytest.mark.parametrize("argument", ["", "full"])
@pytest.mark.parametrize(
    ("means", "named"),
    [
        (MNIST, "MNIST"),
        (KMNIST, "KMNIST"),
        ([1 - mean for mean in CLASS_MEANS], "mean"),
        ([0.2861] * 10, "mean"),
        (CLASS_MEANS[::-1], "mean"),
    ],
    ids=["MNIST", "KMNIST", "inverted", "one mean", "labels reversed"],
)
def test_relatives_with_the_same_file_names_are_refused(tmp_path, argument, means, named):
    with pytest.raises(DataError, match=rf"{re.escape(str(tmp_path))}.*\b{named}\b"):
        load(argument, DataOptions(root=write_means(tmp_path / "raw", means)))


def test_a_part_with_the_means_of_fashion_mnist_is_one(tmp_path):
    task = load("", DataOptions(root=write_means(tmp_path / "raw", CLASS_MEANS)))
    assert task.source.startswith("fashion-mnist partial (2000 train, 100 test)")


@pytest.mark.slow
def test_the_whole_number_of_digits_is_not_the_full_set(tmp_path):
    with pytest.raises(DataError, match="MNIST"):
        load("full", DataOptions(root=write_means(tmp_path / "raw", MNIST, 60_000, 10_000)))


@pytest.mark.slow
def test_as_many_images_of_other_content_are_not_the_full_set(tmp_path):
    folder = write_means(tmp_path / "raw", CLASS_MEANS, 60_000, 10_000)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*:full"):
        load("full", DataOptions(root=folder))
    assert "fashion-mnist changed (60000 train" in load("", DataOptions(root=folder)).source


def test_the_published_digests_are_of_the_files_in_this_package():
    for name, dimensions in zip(FILES["test"], (3, 1), strict=True):
        packed = EMBEDDED_FOLDER / f"{name}.gz"
        assert hashlib.sha256(gzip.decompress(packed.read_bytes())).hexdigest() == DIGESTS[name]
        assert idx_digest(read_idx(packed, dimensions)) == DIGESTS[name]


def test_the_full_set_is_known_however_it_is_compressed(tmp_path):
    skip_without_the_package()
    for path in DEBIAN_FOLDER.glob("*ubyte.gz"):
        (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert load("full", DataOptions(root=tmp_path)).source.startswith("fashion-mnist full")

"""CIFAR in its four distributed forms, and pickles that ask for more than arrays."""

import dataclasses
import gzip
import hashlib
import os
import pickle
import resource
import shutil
import tarfile
import tracemalloc
from contextlib import suppress

import numpy
import pytest
import torch
import torchvision

from ld3m_plugin.data.cifar import CIFAR10, CIFAR100, load_cifar10, load_cifar100, load_variant
from ld3m_plugin.data.safe_pickle import load_arrays
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.task import DataOptions

SMALL10 = dataclasses.replace(CIFAR10, train=dict.fromkeys(CIFAR10.train, 20), test={"test_batch": 30})
SMALL100 = dataclasses.replace(CIFAR100, train={"train": 200}, test={"test": 100})
VARIANTS = pytest.mark.parametrize("variant", [SMALL10, SMALL100], ids=["cifar10", "cifar100"])


def content(variant):
    """file -> (pixels (n, 3072), labels)."""
    rng = numpy.random.default_rng(0)
    return {
        name: (
            rng.integers(0, 256, (count, 3072), dtype=numpy.uint8),
            [number % len(variant.class_names) for number in range(count)],
        )
        for name, count in {**variant.train, **variant.test}.items()
    }


def write_binary(variant, root):
    folder = root / variant.binary
    folder.mkdir(parents=True)
    for name, (pixels, labels) in content(variant).items():
        coarse = [[7]] * len(labels) if variant.label_bytes == 2 else [[]] * len(labels)
        rows = [bytes([*c, label]) + row.tobytes() for c, label, row in zip(coarse, labels, pixels, strict=True)]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
    return folder


def write_python(variant, root, protocol=2):
    folder = root / variant.python
    folder.mkdir(parents=True)
    for name, (pixels, labels) in content(variant).items():
        batch = {"data": pixels, variant.label_key: labels, "filenames": ["a.png"] * len(labels)}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return folder


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    shutil.rmtree(folder)
    return archive


def check(variant, task, place):
    expected = content(variant)
    assert task.class_names == variant.class_names
    assert task.source.endswith(f"from {place}")
    for images, names in ((task.train, variant.train), (task.test, variant.test)):
        pixels = numpy.concatenate([expected[name][0] for name in names])
        labels = numpy.concatenate([expected[name][1] for name in names])
        for index, count in enumerate(images.counts()):
            wanted = torch.from_numpy(pixels[labels == index]).view(-1, 3, 32, 32)
            assert torch.equal(images.read(index, torch.arange(count)), wanted)


@VARIANTS
def test_the_four_forms_give_the_same_images(variant, tmp_path):
    place = write_binary(variant, tmp_path / "a")
    check(variant, load_variant(variant, "", DataOptions(root=tmp_path / "a")), place)
    check(variant, load_variant(variant, "", DataOptions(root=place)), place)
    archive = pack(place, tmp_path / "a" / variant.archives[0])
    check(variant, load_variant(variant, "", DataOptions(root=tmp_path / "a")), archive)
    place = write_python(variant, tmp_path / "b")
    check(variant, load_variant(variant, "", DataOptions(root=tmp_path / "b")), place)
    archive = pack(place, tmp_path / "b" / variant.archives[1])
    check(variant, load_variant(variant, "", DataOptions(root=tmp_path / "b")), archive)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [variant.archives[1]]


def test_torchvision_reads_the_same_images(tmp_path, monkeypatch):
    folder = write_python(SMALL10, tmp_path)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10.class_names)}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *arguments: True)
    theirs = torchvision.datasets.CIFAR10(tmp_path, train=True)
    ours = load_variant(SMALL10, "", DataOptions(root=tmp_path))
    for index in range(10):
        wanted = torch.from_numpy(theirs.data[numpy.array(theirs.targets) == index]).permute(0, 3, 1, 2)
        assert torch.equal(ours.train.read(index, torch.arange(len(wanted))), wanted)


@VARIANTS
def test_facts_and_forms(variant, tmp_path):
    write_binary(variant, tmp_path)
    task = load_variant(variant, "", DataOptions(root=tmp_path))
    assert (task.image_size, task.channels) == (32, 3)
    assert (task.mean, task.std) == (variant.mean, variant.std)
    gray = load_variant(variant, "", DataOptions(root=tmp_path, grayscale=True, image_size=16))
    assert gray.train.read(0, torch.tensor([0])).shape == (1, 1, 16, 16)
    weights = torch.tensor([0.299, 0.587, 0.114])
    pixels = torch.cat([task.train.read(k, torch.arange(n)) for k, n in enumerate(task.train.counts())])
    expected = float((pixels.float().mean((0, 2, 3)) / 255) @ weights)
    assert gray.mean[0] == pytest.approx(expected, abs=2e-3)


def test_the_published_facts():
    assert (len(CIFAR10.class_names), len(CIFAR100.class_names)) == (10, 100)
    assert sum(CIFAR10.train.values()) == sum(CIFAR100.train.values()) == 50_000
    assert list(CIFAR100.class_names) == sorted(set(CIFAR100.class_names))
    assert hashlib.sha256(" ".join(CIFAR100.class_names).encode()).hexdigest()[:8] == "77827c4c"
    assert CIFAR10.mean == (0.4914, 0.4822, 0.4465)
    assert CIFAR10.std == (0.2023, 0.1994, 0.2010)
    assert CIFAR100.mean == (0.5071, 0.4866, 0.4409)
    assert CIFAR100.std == (0.2673, 0.2564, 0.2762)


@pytest.mark.parametrize("load", [load_cifar10, load_cifar100])
def test_not_found_says_where_it_looked_and_what_to_put_there(load, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cifar-100?-\S+/.*cifar-100?-python\.tar\.gz.*root=PATH") as caught:
        load("", DataOptions(root=tmp_path))
    assert str(tmp_path) in str(caught.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"\bdata\b"):
        load("", DataOptions())
    with pytest.raises(InvalidOptionError, match=r"cifar100?:x.*root=PATH"):
        load("x", DataOptions())


@VARIANTS
def test_a_missing_split_is_an_error_that_names_the_file(variant, tmp_path):
    last = next(iter(variant.test))
    for write, ending in ((write_binary, ".bin"), (write_python, "")):
        folder = write(variant, tmp_path / write.__name__)
        (folder / f"{last}{ending}").unlink()
        with pytest.raises(DataError, match=rf"{folder}.*{last}{ending}"):
            load_variant(variant, "", DataOptions(root=folder.parent))
    archive = pack(folder, folder.parent / variant.archives[1])
    with pytest.raises(DataError, match=rf"{archive}.*{last}"):
        load_variant(variant, "", DataOptions(root=archive.parent))


@pytest.mark.parametrize(("keep", "numbers"), [(5000, "5000.*3073"), (3073, r"\b1\b.*\b20\b"), (0, r"\b0\b.*3073")])
def test_truncated_binary_files_are_errors(tmp_path, keep, numbers):
    path = write_binary(SMALL10, tmp_path) / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=numbers) as caught:
        load_variant(SMALL10, "", DataOptions(root=tmp_path))
    assert str(path) in str(caught.value)


def test_a_truncated_archive_is_an_error(tmp_path):
    archive = pack(write_binary(SMALL10, tmp_path), tmp_path / SMALL10.archives[0])
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        load_variant(SMALL10, "", DataOptions(root=tmp_path))


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        {"data": numpy.zeros((20, 3072), numpy.uint8)},
        {"data": numpy.zeros((20, 3072)), "labels": [0] * 20},
        {"data": numpy.zeros((20, 7), numpy.uint8), "labels": [0] * 20},
        {"data": numpy.zeros((20, 3072), numpy.uint8), "labels": ["0"] * 20},
        {"data": numpy.zeros((20, 3072), numpy.uint8), "labels": [10] * 20},
        {"data": numpy.zeros((20, 3072), numpy.uint8), "labels": [1] * 19},
    ],
)
def test_a_pickle_of_something_else_is_an_error(tmp_path, batch):
    (write_python(SMALL10, tmp_path) / "data_batch_1").write_bytes(pickle.dumps(batch))
    with pytest.raises(DataError, match=r"data_batch_1\b"):
        load_variant(SMALL10, "", DataOptions(root=tmp_path))


class Malicious:
    """Unpickling this with `pickle.load` makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    data = pickle.dumps({"data": Malicious(tmp_path / "owned")}, protocol=protocol)
    with pytest.raises(DataError, match=r"batch.*(posix|nt)\.mkdir"):
        load_arrays(data, tmp_path / "batch")
    assert not (tmp_path / "owned").exists()
    pickle.loads(data)  # noqa: S301 (the pickle does work)
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "stolen"),
    [
        ("builtins.eval", b"cbuiltins\neval\n(S'1'\ntR."),
        ("numpy.load", b"cnumpy\nload\n(S'x'\ntR."),
        ("numpy.core.multiarray.fromfile", b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR."),
        ("_codecs.decode", b"c_codecs\ndecode\n(S'x'\ntR."),
        ("numpy.ndarray.tofile", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."),
    ],
)
def test_other_names_of_the_same_modules_are_refused(tmp_path, name, stolen):
    with pytest.raises(DataError) as caught:
        load_arrays(stolen, tmp_path / "batch")
    assert str(tmp_path / "batch") in str(caught.value)
    assert f" {name}," in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    values = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4)
    if protocol == 5:
        # Protocol 5 names numpy's _frombuffer, which no distributed file uses.
        with pytest.raises(DataError, match="_frombuffer"):
            load_arrays(pickle.dumps(values, protocol=5), tmp_path / "batch")
    else:
        assert numpy.array_equal(load_arrays(pickle.dumps(values, protocol=protocol), tmp_path / "batch"), values)


def test_a_pickle_as_python_2_wrote_it(tmp_path):
    # numpy.arange(4, dtype="uint8") by numpy 1 under Python 2, protocol 0: the old module name, byte strings as text.
    old = (
        b"(dp1\nS'data'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntS'b'\ntRp5\n"
        b"(I1\n(I4\ntcnumpy\ndtype\np6\n(S'u1'\nI0\nI1\ntRp7\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x00\\x01\\x02\\xff'\ntbsS'labels'\np8\n(lp9\nI6\nas."
    )
    batch = load_arrays(old, tmp_path / "batch")
    assert batch["data"].tolist() == [0, 1, 2, 255]
    assert batch["labels"] == [6]


def test_damaged_pickles_are_errors_that_name_the_file(tmp_path):
    whole = pickle.dumps({"data": numpy.zeros((2, 3072), numpy.uint8)}, protocol=2)
    for data in (b"", whole[:50], whole[:-3], b"garbage", b"c_codecs\nencode\n(S'a'\nS'zip'\ntR."):
        with pytest.raises(DataError, match=str(tmp_path / "batch")):
            load_arrays(data, tmp_path / "batch")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f0.",  # a place in a table of 2**31
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x04\x8e" + b"\xff" * 5 + b"\0\0\0.",  # bytes, 2**40 of them
        b"\x80\x04\x95" + b"\xff" * 6 + b"\0\0.",
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fU\x01OtR.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\xff\xff\xff\x7fU\x01OtR.",
    ],
)
def test_pickles_that_ask_for_much_memory_are_refused_without_taking_it(tmp_path, content):
    folder = write_python(SMALL10, tmp_path)
    (folder / "data_batch_1").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"data_batch_1"):
        load_variant(SMALL10, "", DataOptions(root=tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ld3m_plugin.data.cifar.LARGEST_FILE", 10_000)
    archive = tmp_path / SMALL10.archives[1]
    archive.write_bytes(gzip.compress(bytes(10_001)))
    with pytest.raises(DataError, match=archive.name):
        load_variant(SMALL10, "", DataOptions(root=tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"Nr\xff\xff\xff\x7f",
        b"Np2147483647\n",
        b"\x96" + (2**40).to_bytes(8, "little") + b"x",
        b"cnumpy\nndarray\n(I1099511627776\ntR",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1099511627776\ntS'b'\ntR",
    ],
    ids=["number of an object", "number in text", "byte array", "array", "reconstructed array"],
)
def test_a_few_bytes_reserve_no_memory(tmp_path, content):
    tracemalloc.start()
    try:
        with suppress(DataError):  # only the number of an object is harmless here
            load_arrays(b"\x80\x05" + content + b".", tmp_path / "batch")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_huge_file_takes_no_more_memory_than_the_largest_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("ld3m_plugin.data.cifar.LARGEST_FILE", 2**20)
    path = write_binary(SMALL10, tmp_path) / "data_batch_1.bin"
    os.truncate(path, 2**40)  # no block of it is on the disk
    with pytest.raises(DataError, match=r"data_batch_1\.bin"):
        load_variant(SMALL10, "", DataOptions(root=tmp_path))

"""The IDX reader, and its errors."""

import gzip
import os
import struct

import pytest
import torch

from ld3m_plugin.data import idx
from ld3m_plugin.data.idx import read_idx
from ld3m_plugin.errors import DataError

VALUES = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 4)


def idx_bytes(values: torch.Tensor) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.numpy().tobytes()


def test_plain_and_compressed_files_read_the_same(tmp_path):
    (tmp_path / "plain").write_bytes(idx_bytes(VALUES))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx_bytes(VALUES)))
    assert torch.equal(read_idx(tmp_path / "plain", 3), VALUES)
    assert torch.equal(read_idx(tmp_path / "packed.gz", 3), VALUES)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"\x89PNG....", "89 50 4e 47", id="another format"),
        pytest.param(bytes((0, 0, 13, 3)) + idx_bytes(VALUES)[4:], "00 00 0d 03", id="floats"),
        pytest.param(idx_bytes(VALUES[0]), "00 00 08 02", id="two dimensions"),
        pytest.param(idx_bytes(VALUES)[:9], "00 00 08 03", id="half a header"),
        pytest.param(idx_bytes(VALUES)[:-1], " 23 ", id="too short"),
        pytest.param(idx_bytes(VALUES) + b"x", " 25 ", id="too long"),
        pytest.param(bytes((0, 0, 8, 3)) + b"\xff" * 12, " larger than ", id="large promise"),
        pytest.param(bytes((0, 0, 8, 3)) + bytes(12), " 0 ", id="no images"),
    ],
)
def test_damaged_content_is_an_error_that_names_the_file(tmp_path, content, found):
    for name, data in (("plain-file", content), ("packed-file.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name) as caught:
            read_idx(tmp_path / name, 3)
        assert found in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["bomb.gz", "plain"])
def test_no_more_than_the_limit_is_read(tmp_path, monkeypatch, name):
    content = bytes((0, 0, 8, 1)) + struct.pack(">I", 2**20) + bytes(2**20)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert len(read_idx(tmp_path / name, 1)) == 2**20
    monkeypatch.setattr(idx, "LARGEST_FILE", len(content) - 1)
    with pytest.raises(DataError, match=f"{name}.*{len(content) - 1}"):
        read_idx(tmp_path / name, 1)


@pytest.mark.parametrize("cut", [5, 15, -9, -1])
def test_truncated_gzip_is_an_error(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(VALUES))[:cut])
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(path, 3)


def test_no_gzip_and_no_file_are_errors(tmp_path):
    (tmp_path / "images.gz").write_bytes(b"<html>not found</html>")
    for name in ("images.gz", "absent"):
        with pytest.raises(DataError, match=name):
            read_idx(tmp_path / name, 3)


def test_zeros_behind_an_archive_are_not_read(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(VALUES)))
    os.truncate(path, 2**42)  # no block of them is on the disk
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(path, 3)

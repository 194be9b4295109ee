"""The IDX reader, and its errors."""

import gzip
import struct

import pytest
import torch

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
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG....", "is not an IDX file"),
        (bytes((0, 0, 13, 3)) + idx_bytes(VALUES)[4:], "is not an IDX file of unsigned bytes"),
        (idx_bytes(VALUES[0]), "with 3 dimensions"),
        (idx_bytes(VALUES)[:9], "ends inside its header"),
        (idx_bytes(VALUES)[:-1], "should hold 24 bytes of data and holds only 23"),
        (idx_bytes(VALUES) + b"x", "should hold 24 bytes of data and holds more"),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, "holds only 0"),
        (bytes((0, 0, 8, 3)) + bytes(12), "holds nothing"),
    ],
)
def test_damaged_content_is_an_error_that_names_the_file(tmp_path, content, message):
    for name, data in (("plain-file", content), ("packed-file.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            read_idx(tmp_path / name, 3)
        assert name in str(caught.value)


@pytest.mark.parametrize("cut", [5, 15, -9, -1])
def test_truncated_gzip_is_an_error(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(VALUES))[:cut])
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(path, 3)


def test_no_gzip_and_no_file_are_errors(tmp_path):
    (tmp_path / "images.gz").write_bytes(b"<html>not found</html>")
    for name in ("images.gz", "absent"):
        with pytest.raises(DataError, match=f"cannot read IDX file .*{name}"):
            read_idx(tmp_path / name, 3)

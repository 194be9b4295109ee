"""Readers of files: what is no file, too large or too deep is one line, at once."""

import json
import os
import socket
import struct

import pytest
import torch
from safetensors.torch import save_file

from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.plain_yaml import read_yaml
from ld3m_plugin.storage import parse_json, read_json, read_json_lines, read_tensors, read_text


def a_pipe(path):
    os.mkfifo(path)


def a_socket(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path.name)  # names of sockets are short
    server.close()


#: What takes the place of a file.
NO_FILES = {
    "pipe": a_pipe,
    "socket": a_socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
}
READERS = {
    "text": lambda path: read_text(path, ArtefactError),
    "JSON": lambda path: read_json(path, ArtefactError),
    "tensors": lambda path: read_tensors(path, ArtefactError),
    "YAML": lambda path: read_yaml(path, ArtefactError),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, make, read):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "content"
    make(path)
    with pytest.raises(ArtefactError, match="content") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert list(read_json_lines(path)) == []


DEEP = {
    "lists": "[" * 5000,
    "closed lists": "[" * 5000 + "]" * 5000,
    "mappings": '{"a":' * 5000,
    "many digits": "1" * 5000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_would_end_the_parser_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"nested|digits"):
        parse_json(text)


def test_brackets_in_texts_and_side_by_side_are_not_deep():
    content = [["[" * 100, '"' + "{" * 100]] * 100
    assert parse_json(json.dumps(content)) == content


def test_lines_of_records_pass_over_what_is_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1}\n', '{"step": 2, "é": "x"}\n'.encode()
    bad = [b"\xff\xfe\x00\n", b"[" * 5000 + b"\n", b"1\n", b"null\n", b"\n", b"x" * 3_000_000 + b"\n", b'{"step": 3']
    path.write_bytes(good[0] + b"".join(bad[:6]) + good[1] + bad[6])
    assert [(line.encode(), record["step"]) for line, record in read_json_lines(path)] == [(good[0], 1), (good[1], 2)]
    assert list(read_json_lines(tmp_path / "missing")) == []


def with_header(path, header, stated=None):
    encoded = header.encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if stated is None else stated) + encoded)


def test_headers_of_tensors_are_bounded(tmp_path):
    path, empty = tmp_path / "x.safetensors", {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    headers = (json.dumps({f"t{n}": empty for n in range(20_000)}), "[" * 5000, "{}", "null", '{"a": 1}')
    for header, stated in zip(headers, (None, None, 2**63, None, None), strict=True):
        with_header(path, header, stated)
        with pytest.raises(ArtefactError, match=r"x\.safetensors"):
            read_tensors(path, ArtefactError)
    save_file({"a": torch.ones(2)}, path, {"k": "v"})
    assert read_tensors(path, ArtefactError)[1] == {"k": "v"}


def test_a_name_that_the_file_system_cannot_write_is_missing_or_damaged(tmp_path):
    for name in ("a\0b", "a" * 300):
        for read in READERS.values():
            with pytest.raises((ArtefactError, UsageError)):
                read(tmp_path / name)


def test_a_sparse_file_of_tensors_is_refused_before_it_is_mapped(tmp_path):
    path = tmp_path / "large.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    os.truncate(path, 2**42)  # no block of it is on the disk
    with pytest.raises(ArtefactError, match=r"large\.safetensors"):
        read_tensors(path, ArtefactError)


def test_the_message_of_an_error_shows_what_would_command_a_terminal():
    assert str(ArtefactError("class '\x1b[31m\u202e' is damaged")) == r"class '\x1b[31m\u202e' is damaged"


def test_a_huge_file_of_lines_has_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    assert len(list(read_json_lines(path))) == 1
    os.truncate(path, 2**42)  # no block of it is on the disk
    assert list(read_json_lines(path)) == []

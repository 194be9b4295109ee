"""The folder of compiled code: what is whole stays, what is damaged is named, what a killed process left is removed."""

import json
import os
import threading
from pathlib import Path

import pytest
import torch

from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.generators.ld3m.compile_cache import CompileCache, cache_folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "compiled" / "here"


def built(folder, name="ab/code.so", content=b"code"):
    """What torch does between two locks."""
    with CompileCache(folder).opened():
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / name


def test_files_stay_and_the_environment_is_given_back(folder, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    first = built(folder)
    second = built(folder, "cd/more.py")
    with CompileCache(folder).opened():
        assert first.read_bytes() == second.read_bytes() == b"code"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [b"", b"co", b"cope"], ids=["empty", "cut off", "one byte"])
def test_a_damaged_file_is_named_with_what_to_delete(folder, damage):
    path = built(folder)
    path.write_bytes(damage)
    with pytest.raises(ArtefactError) as caught, CompileCache(folder).opened():
        pytest.fail("opened")
    assert str(path) in str(caught.value)
    assert f"delete {folder}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"ab/code.so": 1}'])
def test_damaged_digests_are_refused(folder, content):
    built(folder)
    (folder / "digests.json").write_text(content)
    with pytest.raises(ArtefactError, match="delete"), CompileCache(folder).opened():
        pytest.fail("opened")


def test_what_a_killed_or_failed_process_left_is_removed(folder):
    whole = built(folder)
    with pytest.raises(ZeroDivisionError), CompileCache(folder).opened():
        1 / (folder / "ab" / "half.so").write_bytes(b"")
    (folder / "ab" / "other.so").write_bytes(b"of a process that was killed")
    with CompileCache(folder).opened():
        assert list((folder / "ab").iterdir()) == [whole]


def test_a_file_that_is_gone_is_made_again(folder):
    built(folder).unlink()
    built(folder)
    assert json.loads((folder / "digests.json").read_text()).keys() == {"ab/code.so"}


def test_one_compiles_at_a_time(folder):
    inside = threading.Event()

    def other():
        with CompileCache(folder).opened():
            inside.set()

    thread = threading.Thread(target=other)
    with CompileCache(folder).opened():
        thread.start()
        assert not inside.wait(0.3)
    thread.join()
    assert inside.is_set()


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"), CompileCache(tmp_path / "file" / "here").opened():
        pytest.fail("opened")


def test_code_for_another_number_of_threads_lies_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one = cache_folder()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert one.is_relative_to(tmp_path)
    assert one != cache_folder()
    assert one.parent == cache_folder().parent
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().is_relative_to(Path("~").expanduser())

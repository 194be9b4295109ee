"""Locks of folders: held against other processes and threads, and gone with the process that held them."""

import os
import threading

import pytest

from ld3m_plugin.errors import UsageError
from ld3m_plugin.storage import LOCK, InUseError, locked


def lock(folder):
    return locked(folder / LOCK, folder, "choose another --out")


def test_another_process_is_refused_and_named_until_it_dies(tmp_path, process_in):
    holder = process_in(lambda: lock(tmp_path))
    with pytest.raises(InUseError, match=f"process {holder.pid} on ") as error, lock(tmp_path):
        pass
    assert str(tmp_path) in str(error.value)
    assert "--out" in str(error.value)
    holder.kill()
    assert (tmp_path / LOCK).is_file(), "a killed process leaves its file, which locks nothing"
    with lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_thread_is_refused_and_the_same_one_is_not(tmp_path):
    refused = []

    def enter():
        try:
            with lock(tmp_path):
                pass
        except InUseError:
            refused.append(True)

    with lock(tmp_path):
        with lock(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file(), "the inner block is not the one that holds it"
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert refused == [True]


def test_folders_that_were_made_for_the_lock_go_with_it_and_others_stay(tmp_path):
    with lock(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "result").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result"]


def test_a_file_that_its_last_holder_removed_is_not_taken_for_the_lock(tmp_path):
    with lock(tmp_path):
        (tmp_path / LOCK).unlink()
        descriptor = os.open(tmp_path / LOCK, os.O_CREAT | os.O_RDWR)
        os.close(descriptor)
    with lock(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("place", ["file/run", "/proc/run"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").write_text("")
    folder = tmp_path / place
    if not folder.parent.exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(UsageError, match=str(folder)), lock(folder):
        pass

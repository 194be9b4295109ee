"""States with a digest, and files that are whole after a kill."""

import signal
from pathlib import Path

import pytest
import torch

from ld3m_plugin.errors import ArtefactError, UsageError
from ld3m_plugin.storage import check_writable, complete_folder, read_sealed, write_sealed, write_tensors, write_text

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor(True),
    "c": torch.zeros(0, 3),
    "d": torch.ones(2, dtype=torch.bfloat16),
}


def test_the_same_state_is_the_same_bytes(tmp_path):
    facts = {str(number): "x" for number in range(9)}
    for name in ("one", "other"):
        write_sealed(tmp_path / name, TENSORS, facts)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_sealed_file_is_read_as_it_was_written(tmp_path):
    write_sealed(tmp_path / "state", TENSORS, {"settings": "x"})
    tensors, metadata = read_sealed(tmp_path / "state", ArtefactError)
    assert metadata == {"settings": "x"}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_every_flipped_bit_is_noticed(tmp_path):
    write_sealed(tmp_path / "state", TENSORS, {"settings": "x"})
    content = (tmp_path / "state").read_bytes()
    accepted, problems = [], []
    for at in range(8, len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "state").write_bytes(changed)
        try:
            tensors, _ = read_sealed(tmp_path / "state", ArtefactError)
        except ArtefactError as error:
            problems.append(str(error))
        else:
            same = (torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
            accepted.append(tensors.keys() == TENSORS.keys() and all(same))
    assert all(str(tmp_path / "state") in problem and "\n" not in problem for problem in problems)
    # In the name of the digest itself, or in white space: what is read then is what was written.
    assert len(accepted) <= len("sha256") + 8
    assert all(accepted)


def test_a_file_without_a_digest_is_read(tmp_path):
    write_tensors(tmp_path / "state", TENSORS, {"settings": "x"})
    assert read_sealed(tmp_path / "state", ArtefactError)[1] == {"settings": "x"}


WRITES = """
import sys
from pathlib import Path
from ld3m_plugin.storage import complete_folder, write_text

place = Path(sys.argv[1])
write_text(place / "file", "new")
with complete_folder(place / "folder") as folder:
    (folder / "part").write_text("new")
"""


@pytest.mark.slow
def test_a_kill_leaves_no_half_of_anything(tmp_path, child):
    write_text(tmp_path / "file", "old")
    with complete_folder(tmp_path / "folder") as folder:
        (folder / "part").write_text("old")

    script = tmp_path / "write.py"
    script.write_text(WRITES)
    assert child(script, tmp_path, kill_at=("os.rename", "file")) == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"
    assert child(script, tmp_path, kill_at=("os.rename", "folder")) == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "folder").exists(), "between the move of the old one and that of the new one"
    assert child(script, tmp_path) == 0
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "part").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["folder"], "nothing is left of the kill"


def test_tensors_that_cannot_be_written_name_the_file_and_the_cause():
    place = Path("/proc/state")
    if not place.parent.is_dir():
        pytest.skip("this system has no /proc")
    with pytest.raises(OSError, match=str(place)) as error:
        write_tensors(place, TENSORS)
    assert error.value.errno is not None
    assert error.value.filename == str(place)


@pytest.mark.parametrize("place", ["file/below", "/proc/below"])
def test_a_place_that_cannot_be_written_is_found_without_a_trace(tmp_path, place):
    (tmp_path / "file").write_text("")
    if place.startswith("/") and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    with pytest.raises(UsageError, match="--root"):
        check_writable(tmp_path / place, "give another --root")
    check_writable(tmp_path / "new" / "deep", "give another --root")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

"""Files and keys of the store: slices, damage, full disks, and what decides a key."""

import json
import resource
import struct
from pathlib import Path

import pytest
import torch

from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files, read_header, read_row
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.store_identity import key_of
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts

MIB = 2**20


# reading --------------------------------------------------------------------------------------------------------------


def peak_bytes():
    """The largest resident memory since the last reset."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def resident_bytes():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_reading_a_row_does_not_read_the_file(tmp_path):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is looked up in Linux's /proc")
    rows, length = 256, MIB // 4
    header = {"parameters": {"dtype": "F32", "shape": [rows, length], "data_offsets": [0, rows * MIB]}}
    text = json.dumps(header).encode()
    path = tmp_path / "expert-00000.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + rows * MIB)  # a hole: nothing is on the disk
        file.seek(8 + len(text) + 200 * MIB)
        file.write(struct.pack("<f", 2.5))
    read_row(path, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident_bytes()
    row = read_row(path, 200)
    assert peak_bytes() - before < 16 * MIB, "one row of 1 MiB out of 256"
    assert row.shape == (length,)
    assert float(row[0]) == 2.5


def test_a_row_is_a_copy(train):
    experts = train()
    row = experts.parameters(0, 1)
    expected = row.clone()
    row.add_(1)
    assert torch.equal(experts.parameters(0, 1), expected)


def test_the_header_says_what_a_file_is(train, task):
    experts = train(seed=5)
    header = read_header(expert_files(experts.store.folder)[1])
    assert (header.key, header.expert, header.seed, header.epochs) == (experts.store.folder.name, 1, 5, (0, 1, 2))
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    assert header.parameters == tuple((name, tuple(p.shape)) for name, p in network.named_parameters())
    assert header.settings["settings"]["network_settings"]["norm"] == "instancenorm"
    assert not header.imported
    described = json.loads((experts.store.folder / "settings.json").read_text())
    assert described["settings"] == header.settings["settings"]
    assert described["wanted"] == {"count": 2, "epochs": 2}
    assert described["task"]["image_size"] == 16
    assert described["parameters"] == sum(p.numel() for p in network.parameters())


# damage ---------------------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def header_cut(path):
    path.write_bytes(path.read_bytes()[:50])


def empty(path):
    path.write_bytes(b"")


def foreign(path):
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [cut, header_cut, empty, foreign], ids=lambda f: f.__name__)
def test_a_damaged_file_is_one_line_everywhere_and_is_made_again_when_deleted(train, task, tiny, damage, every_row):
    experts = train()
    rows, settings, root = every_row(experts), tiny().settings(), experts.store.root
    path = expert_files(experts.store.folder)[1]
    damage(path)
    for use in (lambda: open_experts(root, task, settings), lambda: train_experts(root, task, tiny())):
        with pytest.raises(ExpertError, match=str(path)) as caught:
            use()
        assert "\n" not in str(caught.value)
    (entry,) = list_experts(root)
    assert entry.status == "damaged"
    assert str(path) in entry.problems[0]
    path.unlink()
    assert torch.equal(every_row(train()), rows)


def test_a_file_that_is_damaged_after_opening_is_one_line(train):
    experts = train()
    path = expert_files(experts.store.folder)[0]
    cut(path)
    with pytest.raises(ExpertError, match=str(path)):
        experts.parameters(0, 1)


def test_a_limit_of_the_disk_is_one_line_and_leaves_what_is_finished(train, task, tiny, tmp_path, every_row):
    experts = train(count=1)
    other = {"count": 2, "network_settings": {"depth": 1, "width": 8}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # settings.json fits, an expert of 20 kB does not
    try:
        with pytest.raises(ExpertError, match=r"expert-00001.*-S dtype=bf16"):
            train_experts(experts.store.root, task, tiny(**other))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    names = sorted(path.name for path in experts.store.folder.iterdir())
    assert names == ["expert-00000.safetensors", "settings.json"]
    assert len(train(count=2)) == 2


def test_a_folder_of_somebody_else_is_left_alone(train, task, tiny, tmp_path):
    key = key_of(task, tiny().settings())
    (tmp_path / "root" / key).mkdir(parents=True)
    (tmp_path / "root" / key / "thesis.txt").write_text("years of work")
    with pytest.raises(ExpertError, match=rf"{key}.* --root"):
        train()
    assert [path.name for path in (tmp_path / "root" / key).iterdir()] == ["thesis.txt"]
    assert list_experts(tmp_path / "root") == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / key).write_text("a file")
    with pytest.raises(UsageError, match=str(tmp_path / "other" / key)):
        train("other")


def test_experts_of_other_settings_in_the_folder_are_refused(train, task, tiny):
    first, second = train(), train(rate=0.02)
    moved = second.store.folder / "expert-00007.safetensors"
    expert_files(first.store.folder)[0].rename(moved)
    with pytest.raises(ExpertError, match=f"{moved} .*{first.store.key}"):
        second.store.headers()
    for path in first.store.folder.iterdir():
        path.unlink()
    (second.store.folder / "settings.json").rename(first.store.folder / "settings.json")
    with pytest.raises(ExpertError, match=second.store.key):
        train()


# too little -----------------------------------------------------------------------------------------------------------


def test_nothing_there_names_the_command_and_the_nearest_store(train, task, tiny, tmp_path):
    settings = tiny().settings()
    command = (
        f"ld3m experts train --root {tmp_path}/root --data tiny "
        """-S 'network_settings={"depth": 1, "width": 8}' -S epochs=2 -S batch_size=10 -S count=2"""
    )
    with pytest.raises(ExpertError) as caught:
        open_experts(tmp_path / "root", task, settings)
    assert str(caught.value).endswith(f" with: {command}")
    there = train(rate=0.5, momentum=0.9, seed=1)
    train(rate=0.5)
    with pytest.raises(ExpertError, match=r"rate: 0.5 there, 0.01 asked") as caught:
        open_experts(tmp_path / "root", task, settings)
    assert there.store.key not in str(caught.value)


def test_too_few_experts_name_the_command(train, task, tiny, tmp_path):
    folder = train(count=1).store.folder
    with pytest.raises(ExpertError, match=f"{folder} .*1 of 3 experts.* -S count=3$"):
        open_experts(tmp_path / "root", task, tiny(count=3).settings())


def test_too_few_epochs_name_the_command(train, task, tiny, tmp_path):
    experts = train(epochs=2)
    with pytest.raises(ExpertError, match=r"expert 0 .*0 to 2, not 4 .* with: .*epochs=4"):
        open_experts(tmp_path / "root", task, tiny(epochs=4).settings())
    with pytest.raises(ExpertError, match=r"0 to 2, not 3 .* with: .*epochs=3"):
        experts.parameters(0, 3)
    with pytest.raises(ExpertError, match=f"{experts.store.folder} .*0 to 1.* 2"):
        experts.parameters(2, 0)


def test_what_is_there_beyond_the_count_is_left_alone(train, task, tiny, tmp_path):
    cut(expert_files(train(count=2).store.folder)[1])
    assert len(open_experts(tmp_path / "root", task, tiny(count=1).settings())) == 1

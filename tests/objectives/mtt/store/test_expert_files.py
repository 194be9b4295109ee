"""Files and keys of the store: slices, damage, full disks, and what decides a key."""

import json
import resource
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ld3m_plugin.data.identity import data_digest
from ld3m_plugin.data.imagefolder import load as load_imagefolder
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import ExpertSettings, open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files, read_header, read_row
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.expert_settings import EXTENT
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.store_identity import differences, key_of
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.task import DataOptions
from ld3m_plugin.testing import RandomImages, tiny_task

MIB = 2**20

# reading --------------------------------------------------------------------------------------------------------------


def peak_bytes():
    """The largest resident memory since the last reset."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def resident_bytes():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is looked up in Linux's /proc")
def test_reading_a_row_does_not_read_the_file(tmp_path):
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
    message = rf"{path} is damaged \(.*\): delete it, and the command that made it makes it again"
    for use in (lambda: open_experts(root, task, settings), lambda: train_experts(root, task, tiny())):
        with pytest.raises(ExpertError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
    (entry,) = list_experts(root)
    assert entry.status == "damaged"
    assert str(path) in entry.problems[0]
    path.unlink()
    assert torch.equal(every_row(train()), rows)


def test_a_file_that_is_damaged_after_opening_is_one_line(train):
    experts = train()
    cut(expert_files(experts.store.folder)[0])
    with pytest.raises(ExpertError, match="is damaged"):
        experts.parameters(0, 1)


def test_a_limit_of_the_disk_is_one_line_and_leaves_what_is_finished(train, task, tiny, tmp_path, every_row):
    experts = train(count=1)
    other = {"count": 2, "network_settings": {"depth": 1, "width": 8}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))  # settings.json fits, an expert of 20 kB does not
    try:
        with pytest.raises(ExpertError, match=r"cannot write .*expert-00001.*: files there may not be so large"):
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
    with pytest.raises(ExpertError, match=rf"{key} is not a store of experts .*choose another --root"):
        train()
    assert [path.name for path in (tmp_path / "root" / key).iterdir()] == ["thesis.txt"]
    assert list_experts(tmp_path / "root") == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / key).write_text("a file")
    with pytest.raises(ExpertError, match="is a file, and experts would be kept in a folder there"):
        train("other")


def test_experts_of_other_settings_in_the_folder_are_refused(train, task, tiny):
    first, second = train(), train(rate=0.02)
    moved = second.store.folder / "expert-00007.safetensors"
    expert_files(first.store.folder)[0].rename(moved)
    with pytest.raises(ExpertError, match=f"{moved} is expert 0 of {first.store.key}, not expert 7 of"):
        second.store.headers()
    for path in first.store.folder.iterdir():
        path.unlink()
    (second.store.folder / "settings.json").rename(first.store.folder / "settings.json")
    with pytest.raises(ExpertError, match=f"was made for {second.store.key}: give the folder its own name back"):
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
    assert str(caught.value) == (f"no experts of these settings are in {tmp_path}/root; make them with: {command}")
    there = train(rate=0.5, momentum=0.9, seed=1)
    train(rate=0.5)
    with pytest.raises(ExpertError, match=r"differs in rate: 0.5 there, 0.01 asked\); make them") as caught:
        open_experts(tmp_path / "root", task, settings)
    assert there.store.key not in str(caught.value)


def test_too_few_experts_name_the_command(train, task, tiny, tmp_path):
    folder = train(count=1).store.folder
    with pytest.raises(ExpertError, match=rf"{folder} has 1 of the 3 experts .* make the others with: .* -S count=3$"):
        open_experts(tmp_path / "root", task, tiny(count=3).settings())


def test_too_few_epochs_name_the_command(train, task, tiny, tmp_path):
    experts = train(epochs=2)
    with pytest.raises(
        ExpertError, match=r"expert 0 stores epochs 0 to 2, and epoch 4 .* train longer with: .*epochs=4"
    ):
        open_experts(tmp_path / "root", task, tiny(epochs=4).settings())
    with pytest.raises(
        ExpertError, match=r"stores epochs 0 to 2, and 3 is asked for: .* train longer with: .*epochs=3"
    ):
        experts.parameters(0, 3)
    with pytest.raises(ExpertError, match="was opened for experts 0 to 1: there is no 2"):
        experts.parameters(2, 0)


def test_what_is_there_beyond_the_count_is_left_alone(train, task, tiny, tmp_path):
    cut(expert_files(train(count=2).store.folder)[1])
    assert len(open_experts(tmp_path / "root", task, tiny(count=1).settings())) == 1


# keys -----------------------------------------------------------------------------------------------------------------

OTHER = {
    "network": "VGG11",
    "network_settings": {"depth": 1, "width": 16},
    "rate": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "batch_size": 11,
    "dsa": "color",
    "seed": 1,
    "count": 3,
    "epochs": 3,
}


def test_every_setting_is_tried():
    assert set(OTHER) == set(ExpertSettings.model_fields)


@pytest.mark.parametrize("name", OTHER)
def test_a_key_changes_with_each_setting_but_the_extent(task, tiny, name):
    settings = tiny().settings()
    if name == "network":
        settings = settings.model_copy(update={"network_settings": {}})
    other = settings.model_copy(update={name: OTHER[name]})
    assert (key_of(task, other) == key_of(task, settings)) == (name in EXTENT)


DATA = {
    "count": lambda: tiny_task(train=13),
    "classes": lambda: tiny_task(class_names=("a", "b", "c")),
    "size": lambda: tiny_task(image_size=8),
    "channels": lambda: tiny_task(channels=3),
    "pixels": lambda: replace(tiny_task(), train=RandomImages(3, 12, 1, 16, seed=7)),
    "mean": lambda: replace(tiny_task(), mean=(0.4,)),
    "std": lambda: replace(tiny_task(), std=(0.2,)),
}


@pytest.mark.parametrize("what", DATA)
def test_a_key_changes_with_the_data(task, tiny, what):
    settings = tiny().settings()
    assert key_of(DATA[what](), settings) != key_of(task, settings)


def test_a_key_does_not_change_with_name_and_place(task, tiny):
    settings = tiny().settings()
    renamed = replace(task, name="imagefolder:/elsewhere", source="another copy", read_with={"root": "/elsewhere"})
    assert key_of(renamed, settings) == key_of(task, settings)


def test_a_folder_of_images_keeps_its_key_when_it_moves(tmp_path, tiny):
    from PIL import Image

    for split in ("train", "test"):
        for name, shade in (("dark", 40), ("light", 200)):
            (tmp_path / "a" / split / name).mkdir(parents=True)
            for index in range(3):
                Image.new("L", (16, 16), shade + index).save(tmp_path / "a" / split / name / f"{index}.png")
    keys = []
    for place in ("a", "b"):
        task = load_imagefolder(str(tmp_path / place), DataOptions())
        keys.append((key_of(task, tiny().settings()), data_digest(task)))
        (tmp_path / place).rename(tmp_path / "b")
    assert keys[0] == keys[1]


def test_defaults_of_a_network_may_be_named_or_left_out(task, tiny):
    bare = tiny(network_settings={"width": 8}).settings()
    named = tiny(network_settings={"norm": "instancenorm", "width": 8, "pooling": "avg"}).settings()
    assert key_of(task, bare) == key_of(task, named)
    assert key_of(task, tiny(dsa="").settings()) == key_of(task, tiny(dsa="none").settings())


def test_a_key_is_readable(task, tiny):
    assert key_of(task, tiny().settings()).startswith("ConvNet-16px-3classes-")
    assert differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == {"a.c": (None, 2)}


# plan and list --------------------------------------------------------------------------------------------------------


def test_a_plan_is_arithmetic(train, task, tiny, tmp_path):
    train(count=1)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_experts(tmp_path / "root", task, tiny(count=5), timed=2)
    # conv 8x1x3x3 + 8, norm 8 + 8, linear 3 x (8x8x8) + 3
    assert plan.parameters == 72 + 8 + 16 + 3 * 512 + 3 == 1635
    assert (plan.count, plan.missing, plan.epochs) == (5, 4, 2)
    assert plan.updates == 2 * 4  # 36 images in batches of 10
    assert plan.expert_bytes == 3 * 1635 * 4
    assert plan.missing_bytes == 4 * 3 * 1635 * 4
    assert 0 < plan.seconds_an_update < 5
    assert plan.seconds == pytest.approx(4 * 8 * plan.seconds_an_update)
    assert sorted(tmp_path.rglob("*")) == before, "a plan writes nothing"


def test_a_plan_counts_what_is_kept_and_how(task, tiny, tmp_path):
    plan = plan_experts(tmp_path / "root", task, tiny(epochs=50, keep_epochs=4, dtype="bf16"), timed=0)
    assert (plan.epochs, plan.expert_bytes, plan.updates) == (4, 5 * 1635 * 2, 16)
    assert (plan.seconds, plan.missing) == (None, 2)


def test_the_disk_that_a_plan_names_is_what_files_take(train, tiny, task, tmp_path):
    path = expert_files(train(count=1).store.folder)[0]
    plan = plan_experts(tmp_path / "root", task, tiny(count=1), timed=0)
    assert 0 < path.stat().st_size - plan.expert_bytes < 4096


def test_more_updates_can_be_timed_than_an_epoch_has(task, tiny, tmp_path):
    assert plan_experts(tmp_path / "root", task, tiny(together=2), timed=6).seconds_an_update > 0


def test_list_says_what_is_there(train, task, tiny, tmp_path):
    train(count=2)
    train(count=1, rate=0.5)
    train_experts(tmp_path / "root", task, tiny(count=3, rate=0.5, epochs=1), first=2)
    (tmp_path / "root" / "notes").mkdir()
    entries = {entry.key: entry for entry in list_experts(tmp_path / "root")}
    complete = entries[key_of(task, tiny().settings())]
    partial = entries[key_of(task, tiny(rate=0.5).settings())]
    assert len(entries) == 2
    assert (complete.status, complete.count, complete.wanted, complete.epochs) == ("complete", 2, 2, 2)
    assert (complete.data, complete.network, complete.dtype, complete.imported) == ("tiny", "ConvNet", "float32", 0)
    assert complete.bytes == sum(p.stat().st_size for p in (tmp_path / "root" / complete.key).iterdir())
    assert 0 < complete.loss < 2
    assert (partial.status, partial.count, partial.wanted, partial.epochs) == ("partial", 2, 3, 1)
    with pytest.raises(ExpertError, match="nowhere is not a folder: name the --root"):
        list_experts(tmp_path / "nowhere")

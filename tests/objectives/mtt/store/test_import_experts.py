"""Buffers of the MTT and GLaD code: read without running anything, checked, and copied."""

import pytest
import torch

from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files, read_header
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.published import buffer_files, import_experts
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.testing import tiny_task


def flat(snapshot):
    return torch.cat([parameter.flatten() for parameter in snapshot])


def test_every_expert_and_epoch_arrives_in_the_order_of_the_files(trajectory, buffers, task, tiny, tmp_path):
    folder, copied, there = import_experts(tmp_path / "root", task, tiny(), [buffers])
    assert (copied, there) == (6, 0)
    experts = open_experts(tmp_path / "root", task, tiny(count=6, epochs=3).settings())
    assert experts.epochs == (0, 1, 2, 3)
    for number in range(6):
        for epoch, snapshot in enumerate(trajectory(number)):
            assert torch.equal(experts.parameters(number, epoch), flat(snapshot))
    header = read_header(expert_files(folder)[5])
    assert (header.source, header.imported, header.losses) == ("replay_buffer_10.pt", True, ())
    (entry,) = list_experts(tmp_path / "root")
    assert (entry.count, entry.imported, entry.epochs, entry.loss, entry.status) == (6, 6, 3, None, "complete")


def test_files_and_folders_are_taken_in_order_and_once(buffers, tmp_path):
    names = [path.name for path in buffer_files([buffers / "replay_buffer_1.pt", buffers])]
    assert names == ["replay_buffer_1.pt", "replay_buffer_0.pt", "replay_buffer_10.pt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=str(tmp_path / "empty")):
        buffer_files([tmp_path / "empty"])


def test_an_import_goes_on_and_copies_nothing_twice(buffers, task, tiny, tmp_path):
    root = tmp_path / "root"
    assert import_experts(root, task, tiny(), [buffers / "replay_buffer_0.pt"])[1:] == (2, 0)
    assert import_experts(root, task, tiny(), [buffers])[1:] == (4, 2)
    assert import_experts(root, task, tiny(), [buffers])[1:] == (0, 6)
    assert len(open_experts(root, task, tiny(count=6).settings())) == 6


def test_epochs_that_are_not_read_can_be_left_out_and_rows_rounded(trajectory, buffers, task, tiny, tmp_path):
    options = tiny(keep_epochs=1, epochs=1, dtype="bf16")
    import_experts(tmp_path / "root", task, options, [buffers])
    experts = open_experts(tmp_path / "root", task, options.settings())
    assert experts.epochs == (0, 1)
    assert torch.equal(experts.parameters(1, 1), flat(trajectory(1)[1]).bfloat16().float())


def test_training_fills_up_and_never_replaces_what_was_imported(buffers, task, tiny, tmp_path):
    root = tmp_path / "root"
    folder, *_ = import_experts(root, task, tiny(), [buffers / "replay_buffer_0.pt"])
    assert plan_experts(root, task, tiny(count=3), timed=0).missing == 1
    train_experts(root, task, tiny(count=3))
    sources = [read_header(path).source for path in expert_files(folder).values()]
    assert sources == ["replay_buffer_0.pt", "replay_buffer_0.pt", "trained"]
    before = (folder / "settings.json").read_bytes()
    with pytest.raises(ExpertError, match=r"expert 0 .*imported.* --epochs 3"):
        train_experts(root, task, tiny(count=3, epochs=4))
    assert (folder / "settings.json").read_bytes() == before, "what is refused changes nothing"
    with pytest.raises(ExpertError, match=r"not 9 \(3 of 3 "):
        open_experts(root, task, tiny(count=3, epochs=9).settings())


def test_the_format_before_torch_1_6_is_read_too(trajectory, one, task, tiny, tmp_path):
    path = one([trajectory(0)], _use_new_zipfile_serialization=False)
    assert import_experts(tmp_path / "root", task, tiny(), [path])[1:] == (1, 0)


def test_snapshots_may_be_parts_of_one_tensor(trajectory, one, task, tiny, tmp_path):
    snapshots = trajectory(0)
    whole = torch.stack([flat(snapshot) for snapshot in snapshots])
    sizes = [p.numel() for p in snapshots[0]]
    parts = [
        [part.view(p.shape) for part, p in zip(row.split(sizes), snapshots[0], strict=True)] for row in whole.unbind()
    ]
    assert import_experts(tmp_path / "root", task, tiny(), [one([parts])])[1:] == (1, 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_is_read(trajectory, one, task, tiny, tmp_path, dtype):
    expert = [[p.to(dtype) for p in snapshot] for snapshot in trajectory(0)]
    import_experts(tmp_path / "root", task, tiny(), [one([expert])])
    experts = open_experts(tmp_path / "root", task, tiny(count=1).settings())
    assert torch.equal(experts.parameters(0, 1), flat(expert[1]).float())


def test_a_file_may_be_called_trained(trajectory, one, task, tiny, tmp_path):
    path = one([trajectory(0)]).rename(tmp_path / "trained")
    folder, *_ = import_experts(tmp_path / "root", task, tiny(), [path])
    header = read_header(expert_files(folder)[0])
    assert (header.imported, header.source) == (True, "trained")
    with pytest.raises(ExpertError, match=r"expert 0 .*imported.* epoch 3"):
        train_experts(tmp_path / "root", task, tiny(count=1, epochs=4))


def test_the_data_decides_the_store(buffers, task, tiny, tmp_path):
    other = tiny_task(train=20)
    folders = {import_experts(tmp_path / "root", data, tiny(), [buffers])[0] for data in (task, other)}
    assert len(folders) == 2

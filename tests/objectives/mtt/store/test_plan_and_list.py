"""The cost of experts before they are trained, and the list of stores."""

import pytest

from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.store_identity import key_of
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts


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
    with pytest.raises(ExpertError, match=r"nowhere .*--root"):
        list_experts(tmp_path / "nowhere")

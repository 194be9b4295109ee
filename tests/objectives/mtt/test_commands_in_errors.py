"""Errors name the command that makes what is missing: it does, and leaves what is there as it is."""

import shlex
from dataclasses import replace

import pytest
import torch

from ld3m_plugin.backends import get_objective
from ld3m_plugin.data.load import load_task
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import read_header
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import build_registry
from ld3m_plugin.testing import tiny_task


def options(**other):
    return TrainingOptions(network_settings={"depth": 1, "width": 8}, batch_size=10, epochs=2, count=2, **other)


def command_in(caught):
    """The arguments of the command that a message ends with."""
    program, *arguments = shlex.split(str(caught.value).split(" with: ")[1])
    assert program == "ld3m"
    return arguments


def test_the_command_that_an_error_names_makes_the_experts(tiny_site, ld3m, tmp_path):
    task = load_task("tiny", image_size=8, registry=build_registry(environ={}))
    settings = options(seed=3, rate=0.02, dsa="color_flip").settings()
    with pytest.raises(ExpertError) as caught:
        open_experts(tmp_path / "my experts", task, settings)
    arguments = command_in(caught)
    assert "image_size=8" in arguments
    assert ld3m(*arguments).code == 0
    assert len(open_experts(tmp_path / "my experts", task, settings)) == 2


def test_the_command_that_the_objective_names_makes_experts_that_it_accepts(tiny_site, ld3m, tmp_path):
    task = replace(tiny_task(), name="tiny").for_training()
    matched = {
        "experts": str(tmp_path / "experts"),
        "network_settings": {"depth": 1, "width": 8},
        "expert_settings": {"epochs": 2, "count": 2, "batch_size": 10},
        # the last epoch that is read is 4, later than the epochs of the settings
        **{"max_start_epoch": 3, "expert_epochs": 2},
    }

    def prepare():
        objective = get_objective("mtt", **matched)
        objective.prepare(task, torch.arange(3), stream(0, "objective"))
        return objective

    with pytest.raises(ExpertError) as caught:
        prepare()
    assert ld3m(*command_in(caught)).code == 0
    assert prepare().experts.epochs == (0, 1, 2, 3, 4)


KEPT = {
    "bf16": (["-S", "dtype=bf16"], {"epochs": 2}, 2, 2),
    "fewer epochs kept": (["-S", "keep_epochs=1"], {"epochs": 9}, 1, 1),
    "more than is needed": (["-S", "keep_epochs=3", "--epochs", "9", "-S", "dtype=bf16"], {"epochs": 9}, 1, 3),
    "more than is asked for": (["--epochs", "4"], {"epochs": 3}, 2, 3),
}


@pytest.mark.parametrize(("how", "asked", "last", "reached"), KEPT.values(), ids=KEPT)
def test_the_command_that_an_error_names_leaves_what_is_there_as_it_is(
    tiny_site, ld3m, training, tmp_path, how, asked, last, reached
):
    assert ld3m(*training(), *how).code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("expert-*")}
    task = replace(tiny_task(), name="tiny")
    settings = options().settings().model_copy(update={"count": 3, **asked})
    with pytest.raises(ExpertError, match="2 of 3 experts") as caught:
        open_experts(tmp_path / "experts", task, settings, last_epoch=last)
    assert ld3m(*command_in(caught)).code == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert len(open_experts(tmp_path / "experts", task, settings, last_epoch=last)) == 3
    assert read_header(folder / "expert-00002.safetensors").epochs[-1] == reached


def test_imported_experts_are_filled_up_by_the_command_or_no_command_is_named(tiny_site, ld3m, training, tmp_path):
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    torch.save([[[p.detach() + e for p in network.parameters()] for e in range(3)]], tmp_path / "replay_buffer_0.pt")
    assert ld3m("experts", "import", ".", *training()[2:8]).code == 0
    task = replace(tiny_task(), name="tiny")
    settings = options().settings().model_copy(update={"epochs": 9})
    with pytest.raises(ExpertError, match="1 of 2 experts") as caught:
        open_experts(tmp_path / "experts", task, settings, last_epoch=1)
    with pytest.raises(ExpertError, match="imported") as other:
        open_experts(tmp_path / "experts", task, settings)
    assert "ld3m experts train" not in str(other.value)
    assert ld3m(*command_in(caught)).code == 0
    assert len(open_experts(tmp_path / "experts", task, settings, last_epoch=1)) == 2

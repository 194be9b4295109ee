"""What a run keeps for its report: the images it started from, and the norms of its gradients."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ld3m_plugin.config import resolve
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.runs import run
from ld3m_plugin.runs.start_pictures import read_start
from ld3m_plugin.testing import tiny_task

SETTINGS = {
    "generator.name": "pixel",
    "steps": 2,
    "images_per_class": 2,
    "evaluation.final": False,
    "objective.name": "dm",
    "objective.options": {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}},
    "device": "cpu",
}


def config(**changes):
    return resolve(settings=[*SETTINGS.items(), *changes.items()])


def test_a_run_keeps_the_images_it_started_from(tmp_path):
    task = tiny_task()
    run.start(config(), tmp_path / "run", task=task)
    before = Distillation(config(), task=task)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (task.mean, task.std))
    pictures = (before.images() * std + mean).clamp(0, 1)
    kept = read_start(tmp_path / "run")
    assert list(kept) == list(range(len(pictures)))
    torch.testing.assert_close(torch.stack(list(kept.values())), pictures, rtol=0, atol=0.5 / 255 + 1e-6)


def test_going_on_leaves_them_as_they_are(tmp_path):
    task = tiny_task()
    run.start(config(checkpoint_every=1), tmp_path / "run", task=task)
    path = tmp_path / "run" / "start.safetensors"
    before = path.read_bytes()
    run.resume(tmp_path / "run", task=task)
    assert path.read_bytes() == before


def test_each_step_records_the_norm_of_its_gradient(tmp_path):
    task = tiny_task()
    run.start(config(), tmp_path / "run", task=task)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    step = Distillation(config(), task=task).step()
    assert records[0]["gradient_norm/pixels"] == step.gradient_norms["pixels"]
    assert all(record["gradient_norm/pixels"] > 0 for record in records)


@pytest.mark.parametrize(
    "tensors",
    [
        {"pictures": torch.zeros(2, 1, 4, 4)},
        {"pictures": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "indices": torch.arange(3)},
        {"pictures": torch.zeros(2, 1, 4, 4), "indices": torch.arange(2)},
        {"pictures": torch.zeros(2, 2, 4, 4, dtype=torch.uint8), "indices": torch.arange(2)},
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, tensors):
    save_file(tensors, tmp_path / "start.safetensors")
    with pytest.raises(ArtefactError, match=r"start\.safetensors"):
        read_start(tmp_path)

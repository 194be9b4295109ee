"""Experts that are trained in a fraction of a second."""

from dataclasses import replace

import pytest
import torch

from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.testing import tiny_task

TINY = {"network_settings": {"depth": 1, "width": 8}, "epochs": 2, "batch_size": 10, "count": 2}


@pytest.fixture
def task():
    """3 classes of 12 images: 36 images, 4 updates an epoch, the last one of 6 images."""
    return replace(tiny_task(), name="tiny").for_training()


@pytest.fixture
def tiny():
    """Options of small experts, with others in the place of some."""
    return lambda **other: TrainingOptions(**{**TINY, **other})


@pytest.fixture
def train(task, tmp_path, tiny):
    """Trains small experts and opens them."""

    def train(root="root", *, task=task, first=0, **other):
        options = tiny(**other)
        train_experts(tmp_path / root, task, options, first=first)
        return open_experts(tmp_path / root, task, options.settings(), last_epoch=options.last_epoch)

    return train


@pytest.fixture
def every_row():
    """All rows of opened experts: (experts, epochs, P)."""
    return lambda experts: torch.stack(
        [torch.stack([experts.parameters(i, e) for e in experts.epochs]) for i in range(len(experts))]
    )

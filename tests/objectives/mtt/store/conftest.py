"""Experts that are trained in a fraction of a second."""

from dataclasses import replace

import pytest
import torch

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.randomness import stream
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


def published_trajectory(seed, epochs=3, **settings):
    """An expert as the published code saves it: snapshots, each a list of parameters that were detached, copied and moved."""
    facts = {"channels": 1, "image_size": 16, "num_classes": 3, "depth": 1, "width": 8, **settings}
    rng = stream(seed, "published")
    network = get_network("ConvNet", rng=rng, **facts)
    snapshots = []
    for _ in range(epochs + 1):
        snapshots.append([p.detach().clone().contiguous() for p in network.parameters()])
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.01 * torch.randn(p.shape, generator=rng))
    return snapshots


@pytest.fixture
def trajectory():
    """Makes an expert in the published form, of a seed."""
    return published_trajectory


@pytest.fixture
def buffers(tmp_path, trajectory):
    """A folder of three buffers of two experts each; the third number sorts wrongly as a text."""
    folder = tmp_path / "buffers"
    folder.mkdir()
    for index, number in enumerate((0, 1, 10)):
        torch.save([trajectory(2 * index), trajectory(2 * index + 1)], folder / f"replay_buffer_{number}.pt")
    return folder


@pytest.fixture
def one(tmp_path):
    """Writes a buffer."""

    def write(content, **how):
        path = tmp_path / "replay_buffer_0.pt"
        torch.save(content, path, **how)
        return path

    return write

"""Experts for trajectory matching: networks trained for a few epochs, held in memory."""

import pytest
import torch
from torch.nn import functional as F

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.randomness import stream

NETWORK = {"depth": 2, "width": 8}


def train_experts(task, count=2, epochs=3, rate=0.05, **settings):
    """Plain SGD on all real images of a task, batches of eight."""
    images = torch.cat([task.normalise(task.train.read(k, torch.arange(n))) for k, n in enumerate(task.train.counts())])
    labels = torch.arange(task.num_classes).repeat_interleave(torch.tensor(task.train.counts()))
    sizes = {"channels": task.channels, "image_size": task.image_size, "num_classes": task.num_classes}
    trajectories = []
    for expert in range(count):
        rng = stream(0, "expert", expert)
        network = get_network("ConvNet", rng=rng, **sizes, **{**NETWORK, **settings})
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)
        trajectory = {0: flat(network)}
        for epoch in range(1, epochs + 1):
            for rows in torch.randperm(len(images), generator=rng).split(8):
                optimizer.zero_grad()
                F.cross_entropy(network(images[rows]), labels[rows]).backward()
                optimizer.step()
            trajectory[epoch] = flat(network)
        trajectories.append(trajectory)
    return MemoryExperts(trajectories)


@pytest.fixture(scope="session")
def trained_experts():
    """Trains a few tiny experts of a task."""
    return train_experts

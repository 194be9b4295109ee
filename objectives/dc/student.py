"""A network whose gradients are matched, and which is trained on the synthetic images between the matches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.objectives.matching import cross_entropy
from ld3m_plugin.randomness import lent_to_global, spawn


class Student:
    """A network and the optimiser that trains it.

    Attributes:
        name: of the network's architecture.
        index: number of the student among those of a step, from 0.
    """

    def __init__(self, name: str, index: int, network: Network, lr: float, momentum: float) -> None:
        self.name, self.index, self.network = name, index, network
        self._optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)

    def train(self, images: Tensor, labels: Tensor, dsa: DSA, epochs: int, batch: int, rng: torch.Generator) -> None:
        """Train on the synthetic images (N, C, H, W), augmented with one draw per image, in batches of up to `batch`."""
        self.network.train()
        with lent_to_global(spawn(rng), images.device):  # for dropout
            for _ in range(epochs):
                order = to_device(torch.randperm(len(images), generator=rng), images.device)
                for rows in order.split(batch):
                    self._optimizer.zero_grad(set_to_none=True)
                    cross_entropy(self.network(dsa(images[rows], rng=rng)), labels[rows]).backward()
                    self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors of the network and the optimiser's velocity; those of a student beside the first one have its number."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            velocity = self._optimizer.state[parameter].get("momentum_buffer")
            if velocity is not None:
                state[f"velocity.{name}"] = velocity
        return {f"{self._prefix}{name}": value for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take its part of what `state_dict` gave."""
        prefix = f"{self._prefix}network."
        self.network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        for name, parameter in self.network.named_parameters():
            velocity = state.get(f"{self._prefix}velocity.{name}")
            if velocity is not None:
                self._optimizer.state[parameter]["momentum_buffer"] = velocity.to(parameter.device).clone()

    @property
    def _prefix(self) -> str:
        return f"{self.index}." if self.index else ""

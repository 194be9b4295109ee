"""Training of one network, or of E networks at once, by plain SGD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn import functional as F

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings

Batch = tuple[Tensor, Tensor]


class OneLearner:
    """One network, trained with autograd."""

    def __init__(self, network: Network, settings: ExpertSettings) -> None:
        self._network = network.train()
        self._optimizer = _sgd(list(network.parameters()), settings)

    def update(self, batches: Sequence[Batch]) -> Tensor:
        """Update the network once; returns the loss (1,)."""
        ((images, labels),) = batches
        loss = F.cross_entropy(self._network(images), labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()[None]

    @torch.no_grad()
    def rows(self) -> Tensor:
        """A copy of the weights (1, P) on the CPU, in the order of `module.parameters()`."""
        # reshape and not view: the order is that of the indices, whatever the memory layout of the weights
        return torch.cat([parameter.reshape(-1) for parameter in self._network.parameters()]).cpu()[None]


class ManyLearners:
    """Networks of one architecture with stacked weights: one vectorised update updates all of them.

    Raises:
        InvalidOptionError: the network keeps statistics or draws dropout, which cannot be vectorised.
    """

    def __init__(self, networks: Sequence[Network], settings: ExpertSettings) -> None:
        for network in networks:
            check_stackable(network.train(), settings)
        stacked, _ = stack_module_state(list(networks))
        self._weights = {name: weight.detach() for name, weight in stacked.items()}
        self._optimizer = _sgd(list(self._weights.values()), settings)
        structure = networks[0]

        def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(structure, weights, (images,)), labels)

        self._gradients = vmap(grad_and_value(loss))

    def update(self, batches: Sequence[Batch]) -> Tensor:
        """Update each network once; returns the losses (E,)."""
        images, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
        gradients, losses = self._gradients(self._weights, images, labels)
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        self._optimizer.step()
        result: Tensor = losses
        return result

    def rows(self) -> Tensor:
        """A copy of the weights (E, P) on the CPU, in the order of `module.parameters()`."""
        return torch.cat([weight.flatten(1) for weight in self._weights.values()], dim=1).cpu()


def learner_of(networks: Sequence[Network], settings: ExpertSettings) -> OneLearner | ManyLearners:
    """Make the learner of one network or of several."""
    return OneLearner(networks[0], settings) if len(networks) == 1 else ManyLearners(networks, settings)


def _sgd(weights: list[Tensor], settings: ExpertSettings) -> torch.optim.SGD:
    return torch.optim.SGD(weights, lr=settings.rate, momentum=settings.momentum, weight_decay=settings.weight_decay)


def check_stackable(network: Network, settings: ExpertSettings) -> None:
    """Raise `InvalidOptionError` if a network keeps statistics or draws dropout."""
    drawing = any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in network.modules())
    if drawing or any(True for _ in network.buffers()):
        why = "draws dropout" if drawing else "keeps statistics"
        raise InvalidOptionError(
            f"network {settings.network!r} {why} and cannot be trained together with others: leave -S together out"
        )

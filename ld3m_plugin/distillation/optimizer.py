"""The optimiser of the latents: torch's Adam or SGD, one parameter group a latent, with a state that is plain tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ld3m_plugin.config import OptimizerConfig
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import UsageError, nearest


class LatentOptimizer:
    """Updates the learned latents in place.

    Args:
        config: which optimiser and its settings.
        latents: what to update.
        defaults: Adam learning rates by latent name, from the generator.

    Raises:
        UsageError: a learning rate for a latent that is not learned, or none for one that is.
    """

    def __init__(self, config: OptimizerConfig, latents: Latents, defaults: Mapping[str, float]) -> None:
        self._config = config
        self._defaults = dict(defaults)
        self._adopt(latents)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One update with dloss/dlatent (N, ...) by name."""
        for name, parameter in self._parameters.items():
            parameter.grad = gradients[name]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def follow(self, latents: Latents) -> None:
        """Update these latents from now on: tensors that are the same objects keep their state, others start without."""
        same = {name for name in latents.learned if self._parameters.get(name) is latents[name]}
        if same == set(self._parameters) == set(latents.learned):
            return
        states = {name: self._optimizer.state[self._parameters[name]] for name in same}
        self._adopt(latents)
        for name, state in states.items():
            self._optimizer.state[self._parameters[name]] = state

    def state_dict(self) -> dict[str, Tensor]:
        """`latent.quantity` -> tensor."""
        return {
            f"{name}.{quantity}": value
            for name, parameter in self._parameters.items()
            for quantity, value in self._optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict()`."""
        for key, value in state.items():
            name, _, quantity = key.rpartition(".")
            parameter = self._parameters[name]
            # Adam counts its steps in a tensor on the CPU, except in the fused kernel.
            device = "cpu" if quantity == "step" and not self._fused else parameter.device
            self._optimizer.state[parameter][quantity] = value.to(device)

    def _adopt(self, latents: Latents) -> None:
        rates = self._rates(latents)
        self._parameters = {name: latents[name] for name in sorted(latents.learned)}
        # One kernel updates everything; on the CPU the plain form keeps its bits.
        self._fused = all(parameter.device.type == "cuda" for parameter in self._parameters.values())
        groups = [{"params": [tensor], "lr": rates[name]} for name, tensor in self._parameters.items()]
        if self._config.name == "adam":
            adam = torch.optim.Adam(groups, betas=self._config.betas, fused=self._fused or None)
            self._optimizer: torch.optim.Optimizer = adam
        else:
            self._optimizer = torch.optim.SGD(groups, momentum=self._config.momentum)

    def _rates(self, latents: Latents) -> dict[str, float]:
        given = self._config.learning_rates
        for name in given:
            # A generator may have default rates for latents that only some of its priors have.
            if name not in latents.learned and name not in self._defaults:
                raise UsageError(f"optimizer.learning_rates has {name!r}; {nearest(name, latents.learned)}")
        # The published SGD rates are four orders of magnitude above Adam's: one default cannot serve both.
        defaults = self._defaults if self._config.name == "adam" else {}
        rates = {**defaults, **given}
        missing = sorted(latents.learned - set(rates))
        if missing:
            raise UsageError(
                f"no learning rate for {', '.join(missing)} with {self._config.name}: "
                f"give --set optimizer.learning_rates.{missing[0]}=VALUE, or use a preset"
            )
        return rates

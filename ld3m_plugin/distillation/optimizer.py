"""The optimiser of the latents: torch's Adam or SGD, one parameter group a latent, with a state that is plain tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

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

    Attributes:
        torch: torch's optimiser, the same object throughout, with a parameter group (`latent`: its name) for each latent.

    Raises:
        UsageError: a learning rate for a latent that is not learned, or none for one that is.
    """

    def __init__(self, config: OptimizerConfig, latents: Latents, defaults: Mapping[str, float]) -> None:
        self._config = config
        self._defaults = dict(defaults)
        self._parameters = {name: latents[name] for name in sorted(latents.learned)}
        self._rates = self._rates_of(latents.learned)
        # One kernel updates everything; on the CPU the plain form keeps its bits.
        self._fused = all(parameter.device.type == "cuda" for parameter in self._parameters.values())
        groups = [self._group(name) for name in self._parameters]
        if config.name == "adam":
            adam = torch.optim.Adam(groups, betas=config.betas, fused=self._fused or None)
            self.torch: torch.optim.Optimizer = adam
        else:
            self.torch = torch.optim.SGD(groups, momentum=config.momentum)

    def _group(self, name: str) -> dict[str, Any]:
        return {"params": [self._parameters[name]], "lr": self._rates[name], "latent": name}

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One update with dloss/dlatent (N, ...) by name."""
        for name, parameter in self._parameters.items():
            parameter.grad = gradients[name]
        self.torch.step()
        self.torch.zero_grad(set_to_none=True)

    def follow(self, latents: Latents) -> None:
        """Update these latents from now on: tensors that are the same objects keep their state, others start without."""
        now = {name: latents[name] for name in sorted(latents.learned)}
        gone = {name for name, parameter in self._parameters.items() if now.get(name) is not parameter}
        if not gone and len(now) == len(self._parameters):
            return
        kept = {name: rate for name, rate in self.rates.items() if name in now}
        rates = {**self._rates_of(latents.learned), **kept}
        self.forget(gone)
        self._rates, new = rates, [name for name in now if name in gone or name not in self._parameters]
        self._parameters = now
        # In place: a caller may hold the optimiser.
        self.torch.param_groups[:] = [group for group in self.torch.param_groups if group["latent"] not in gone]
        for name in new:
            self.torch.add_param_group(self._group(name))

    def forget(self, names: Iterable[str]) -> None:
        """Let these latents start without the optimiser's state."""
        for name in names:
            self.torch.state.pop(self._parameters[name], None)

    @property
    def name(self) -> str:
        """`adam` or `sgd`."""
        return self._config.name

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each latent, by name."""
        return {group["latent"]: float(group["lr"]) for group in self.torch.param_groups}

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Use other learning rates, by latent name, from now on."""
        self._rates.update(rates)
        for group in self.torch.param_groups:
            group["lr"] = self._rates[group["latent"]]

    def state_dict(self) -> dict[str, Tensor]:
        """`latent.quantity` -> tensor."""
        return {
            f"{name}.{quantity}": value
            for name, parameter in self._parameters.items()
            for quantity, value in self.torch.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict()`, with storage of its own."""
        for key, value in state.items():
            name, _, quantity = key.rpartition(".")
            parameter = self._parameters[name]
            # Adam counts its steps in a tensor on the CPU, except in the fused kernel.
            device = "cpu" if quantity == "step" and not self._fused else parameter.device
            self.torch.state[parameter][quantity] = value.to(device, copy=True)

    def _rates_of(self, learned: Collection[str]) -> dict[str, float]:
        given = self._config.learning_rates
        for name in given:
            # A generator may have default rates for latents that only some of its priors have.
            if name not in learned and name not in self._defaults:
                raise UsageError(f"optimizer.learning_rates has {name!r}; {nearest(name, learned)}")
        # The published SGD rates are four orders of magnitude above Adam's: one default cannot serve both.
        defaults = self._defaults if self._config.name == "adam" else {}
        rates = {**defaults, **given}
        missing = sorted(set(learned) - set(rates))
        if missing:
            raise UsageError(
                f"no learning rate for {', '.join(missing)} with {self._config.name}: "
                f"give the setting optimizer.learning_rates.{missing[0]} (--set optimizer.learning_rates.{missing[0]}=VALUE), "
                "or use a preset"
            )
        return rates

"""Latents as parameters of a module: their optimisers, the generator's `on_step`, and their state."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from ld3m_plugin.backends import default_rates
from ld3m_plugin.config import OptimizerConfig, RunConfig
from ld3m_plugin.contracts import Generator, Latents
from ld3m_plugin.distillation.optimizer import LatentOptimizer
from ld3m_plugin.distillation.plugin_checks import check_latents
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.options import build
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Registry, blaming, use_registry
from ld3m_plugin.synthetic.pulled_back import Rendered
from ld3m_plugin.synthetic.saved import OWN_LOOP
from ld3m_plugin.synthetic.synthetic_state import check_optimizer, latents_in, read_state, same_kind, state_of

Rates = float | Mapping[str, float]


class LatentParameters(nn.Module):
    """The learned latents of a generator as parameters; optimisers of `optimizer()` never hold a tensor that is learned no more.

    Args:
        generator: prepared.
        latents: to start from, on their device.
        config: the settings, with the generator's name.

    Attributes:
        generator: as given.
        iteration: updates made so far.
    """

    def __init__(self, generator: Generator, latents: Latents, config: RunConfig, registry: Registry) -> None:
        super().__init__()
        self.generator, self.iteration = generator, 0
        self._config, self._registry = config, registry
        self._rng = stream(config.seed, "on_step")
        self._optimizers: list[LatentOptimizer] = []
        self._shown: tuple[Rendered, Tensor] | None = None
        self._spent: list[tuple[Tensor, int]] = []
        self._bind(latents)

    @property
    def latents(self) -> Latents:
        """The latents, learned and fixed, as leaves that share storage with the parameters."""
        learned = self._learned()
        return Latents({**learned, **self._fixed}, tuple(learned)).detach()

    def optimizer(
        self,
        name: str = "adam",
        lr: Rates | None = None,
        *,
        momentum: float = 0.5,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> torch.optim.Optimizer:
        """Make torch's Adam or SGD with a parameter group for each latent; `step()` uses the last one made.

        After each of its steps, the generator's `on_step` is called, and the optimiser follows where that changes latents.

        Args:
            name: `adam` or `sgd`.
            lr: learning rate, of all latents or by name; default for Adam: the generator's own.
            momentum: of SGD.
            betas: of Adam.

        Raises:
            UsageError: a latent without a rate, or a value out of range.
        """
        settings = {"name": name, "learning_rates": self._by_name(lr), "momentum": momentum, "betas": betas}
        config = build(OptimizerConfig, settings, "optimizer()")
        with use_registry(self._registry):
            defaults = default_rates(self.generator, OWN_LOOP)
        missing = sorted(set(self._learned()) - {*config.learning_rates, *(defaults if name == "adam" else ())})
        if missing:
            raise UsageError(
                f"no learning rate for {', '.join(missing)} with {name}: give lr=VALUE, or lr={{{missing[0]!r}: VALUE}}"
            )
        made = LatentOptimizer(config, self._latents_of_parameters(), defaults)
        made.torch.register_step_post_hook(partial(_after, weakref.ref(self)))
        self._optimizers.append(made)
        self._config = self._config.model_copy(update={"optimizer": config})
        return made.torch

    def step(self, lr: Rates | None = None) -> None:
        """Update the latents with the gradients of `backward()`, and drop these.

        Without an `optimizer()` made before, one is made: Adam with the generator's default rates.

        Args:
            lr: learning rate from now on, of all latents or by name.

        Raises:
            HostError: there is no gradient, or an optimiser has used it already.
        """
        if not self._optimizers:
            self.optimizer(lr=lr)
        elif lr is not None:
            self._optimizers[-1].set_rates(
                build(OptimizerConfig, {"learning_rates": self._by_name(lr)}, "step").learning_rates
            )
        without = [name for name, parameter in self._learned().items() if parameter.grad is None]
        if without:
            raise HostError(
                f"there is no gradient of latent {', '.join(without)}: call loss.backward() with images of syn() first"
            )
        if self._are_spent():
            raise HostError(
                "an optimiser has made its step with these gradients already: call its step() or syn.step(), not both"
            )
        self._optimizers[-1].torch.step()
        self.zero_grad(set_to_none=True)
        self._spent = []

    def advance(self) -> None:
        """Count an update and call the generator's `on_step`; only after a step of an optimiser that `optimizer()` did not make.

        Learned latents that it changes are copied into the parameters, so that such an optimiser goes on.

        Raises:
            HostError: the generator moves to other latents, which such an optimiser cannot follow.
        """
        self._shown, rows, step = None, len(self.latents), self.iteration + 1
        given = self.latents
        with use_registry(self._registry), self._blaming(f"on_step at step {step}"):
            moved = check_latents(self.generator.on_step(given, step, self._rng), self._who, rows)
        self._take(given, moved)
        self.iteration = step

    def _stepped(self) -> None:
        """Called after each step of an optimiser of `optimizer()`."""
        if self._gradients():  # without any, torch updates nothing
            self._spent = self._gradients()
            self.advance()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in state_of(self, self._rng, self._optimizers[-1:]).items():
            destination[prefix + name] = value

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        parts = read_state(state_dict, prefix)
        check_optimizer(parts, self._optimizers)
        latents = check_latents(latents_in(parts), "the state", len(self.latents)).to(next(self.parameters()).device)
        if same_kind(self.latents, latents):
            self._take(self.latents, latents)
        else:
            self._bind(latents)
        if parts["rates"] and not self._optimizers:
            self.optimizer(lr=dict.fromkeys(latents.learned, 1.0))
        if parts["rates"]:
            self._optimizers[-1].set_rates({name: float(rate) for name, rate in parts["rates"].items()})
            self._optimizers[-1].load_state_dict(parts["optimizer"])
        self.generator.load_state_dict(parts["generator"])
        self.iteration = int(parts["host"]["iteration"])
        self._rng.set_state(parts["host"]["on_step_rng"].cpu())
        self._shown, self._spent = None, []

    def _learned(self) -> dict[str, nn.Parameter]:
        return {name: cast(nn.Parameter, self._parameters[name]) for name in sorted(self._parameters)}

    def _latents_of_parameters(self) -> Latents:
        learned = self._learned()
        return Latents({**learned, **self._fixed}, tuple(learned))

    def _bind(self, latents: Latents) -> None:
        """Make these latents the module's: parameters of other objects, which the optimisers of `optimizer()` follow."""
        self._shown = None
        self._fixed = {name: latents[name] for name in latents if name not in latents.learned}
        self._parameters.clear()  # not register_parameter: a latent may have any name, such as that of a method
        for name in latents.learned:
            self._parameters[name] = nn.Parameter(latents[name].detach().clone())
        for made in self._optimizers:
            made.follow(self._latents_of_parameters())

    def _take(self, former: Latents, latents: Latents) -> None:
        """Go on with `latents`: copied into the parameters where these have the same shapes, else as new parameters."""
        if not same_kind(former, latents):
            if not self._optimizers:
                raise HostError(
                    f"{self._who} moves from latents {sorted(former.learned)} to {sorted(latents.learned)}, or to other shapes, "
                    "which your optimiser cannot follow: take it from syn.optimizer()"
                )
            self._bind(latents)
            return
        self._fixed = {name: latents[name] for name in latents if name not in latents.learned}
        changed = [name for name in latents.learned if latents[name] is not former[name]]
        with torch.no_grad():
            for name in changed:
                cast(nn.Parameter, self._parameters[name]).copy_(latents[name])
        for made in self._optimizers:
            made.forget(changed)

    def _gradients(self) -> list[tuple[Tensor, int]]:
        """The gradients, and how often each was changed in place."""
        found = (parameter.grad for parameter in self._learned().values())
        return [(gradient, gradient._version) for gradient in found if gradient is not None]

    def _are_spent(self) -> bool:
        """Whether an optimiser has made a step with the very gradients that are there."""
        now, spent = self._gradients(), self._spent
        pairs = zip(now, spent, strict=False)
        return len(now) == len(spent) and all(one is other and n == m for (one, n), (other, m) in pairs)

    def _by_name(self, lr: Rates | None) -> dict[str, float]:
        if lr is None or isinstance(lr, Mapping):
            return dict(lr or {})
        return dict.fromkeys(self._learned(), lr)

    @property
    def _who(self) -> str:
        return f"generator {self._config.generator.name!r}"

    def _blaming(self, method: str) -> Any:
        return blaming("generator", self._config.generator.name, method)


def _after(module: weakref.ref[LatentParameters], *_: Any) -> None:
    syn = module()
    if syn is not None:
        syn._stepped()

"""The state of `Synthetic` as flat tensors, and what of two states is alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ld3m_plugin.contracts import Latents
from ld3m_plugin.distillation.optimizer import LatentOptimizer
from ld3m_plugin.errors import HostError

if TYPE_CHECKING:
    from ld3m_plugin.synthetic.latent_parameters import LatentParameters

_PARTS = ("learned", "fixed", "optimizer", "kind", "rates", "generator", "host")


def state_of(syn: LatentParameters, rng: torch.Generator, optimizers: Sequence[LatentOptimizer]) -> dict[str, Tensor]:
    """`part/name` -> tensor, as `Distillation.state_dict` has it, with the rates of the optimiser that `step()` uses."""
    latents = syn.latents
    parts: dict[str, Mapping[str, Tensor]] = {
        "learned": {name: latents[name] for name in sorted(latents.learned)},
        "fixed": {name: latents[name] for name in latents if name not in latents.learned},
        "generator": syn.generator.state_dict(),
        "host": {"iteration": torch.tensor(syn.iteration), "on_step_rng": rng.get_state()},
    }
    for one in optimizers:
        parts["optimizer"] = one.state_dict()
        # Its quantities do not tell which it is: before the first step there are none.
        parts["kind"] = {one.name: torch.tensor(True)}
        parts["rates"] = {name: torch.tensor(rate, dtype=torch.float64) for name, rate in one.rates.items()}
    return {f"{part}/{name}": value.detach() for part, values in parts.items() for name, value in values.items()}


def read_state(state: Mapping[str, Tensor], prefix: str) -> dict[str, dict[str, Tensor]]:
    """The tensors of a state by part and name.

    Raises:
        HostError: it is the state of something else.
    """
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for key, value in state.items():
        part, slash, name = key.removeprefix(prefix).partition("/")
        if not key.startswith(prefix) or part not in parts or not slash:
            raise HostError(f"this is no state of Synthetic: it has {key!r}")
        parts[part][name] = value
    if not parts["learned"] or parts["host"].keys() != {"iteration", "on_step_rng"}:
        raise HostError("this is no state of Synthetic: load what its state_dict() gave")
    return parts


def check_optimizer(parts: Mapping[str, Mapping[str, Tensor]], optimizers: Sequence[LatentOptimizer]) -> None:
    """Check that the state is of the optimiser that would take it; the default one is Adam.

    Raises:
        HostError: it is of another.
    """
    here = optimizers[-1].name if optimizers else "adam"
    for name in parts["kind"]:
        if name != here:
            raise HostError(
                f"the state is of the optimiser {name!r} and cannot go into {here!r}: call "
                f"syn.optimizer({name!r}, lr=...) before load_state_dict()"
            )


def latents_in(parts: Mapping[str, Mapping[str, Tensor]]) -> Latents:
    """The latents of a state, with storage of their own. It also says which are learned: a generator may have moved."""
    return Latents({**parts["learned"], **parts["fixed"]}, tuple(parts["learned"])).clone()


def same_kind(one: Latents, other: Latents) -> bool:
    """Whether both learn latents of the same names, shapes and types."""
    kinds = [{name: (latents[name].shape, latents[name].dtype) for name in latents.learned} for latents in (one, other)]
    return kinds[0] == kinds[1]

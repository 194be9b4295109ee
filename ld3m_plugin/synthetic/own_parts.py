"""A caller's own generator, objective or loss function, registered for one run under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ld3m_plugin.config import RunConfig, changed
from ld3m_plugin.contracts import DifferentiableObjective, Generator, Objective
from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import recorded
from ld3m_plugin.registry import Backend, Owner, Registry, use_registry

#: `(images, labels, step) -> loss`, optionally with metrics for the record.
Loss = Callable[[Tensor, Tensor, int], Any]

_OWN = "(own code)"


class FunctionObjective(DifferentiableObjective):
    """A function `(images, labels, step) -> loss` as an objective."""

    def __init__(self, function: Loss) -> None:
        super().__init__()
        self._function = function

    def loss(self, images: Tensor, labels: Tensor, step: int) -> Tensor | tuple[Tensor, dict[str, float]]:
        result: Tensor | tuple[Tensor, dict[str, float]] = self._function(images, labels, step)
        return result


def with_own_parts(
    config: RunConfig, registry: Registry | None, generator: Generator | None, objective: Objective | Loss | None
) -> tuple[RunConfig, Registry | None]:
    """The settings with the names of a caller's own parts, and a registry that knows them; None leaves a part as it is.

    Raises:
        UsageError: a part is neither of its contract nor, for an objective, a function.
    """
    if generator is None and objective is None:
        return config, registry
    with use_registry(registry) as known:
        own = known.copy()
    if generator is not None:
        if not isinstance(generator, Generator):
            raise UsageError(
                f"generator = {_shown(generator)}: give a ld3m_plugin.Generator; ModuleGenerator makes one of a module"
            )
        config = _with_part(config, own, "generator", generator, type(generator))
    if objective is not None:
        origin: Any = type(objective)
        if not isinstance(objective, Objective):
            if not callable(objective) or isinstance(objective, type):
                raise UsageError(
                    f"objective = {_shown(objective)}: give an Objective, or a function (images, labels, step) -> loss"
                )
            origin, objective = objective, FunctionObjective(objective)
        config = _with_part(config, own, "objective", objective, origin)
    return config, own


def _with_part(config: RunConfig, registry: Registry, kind: str, part: Generator | Objective, origin: Any) -> RunConfig:
    """Register a part, and choose it in the settings; rates that the settings have for its latents stay."""
    if not hasattr(part, "options"):
        raise UsageError(f"{kind} = {_shown(part)} has no options: its __init__ must call super().__init__()")
    name = _free_name(registry, kind, origin)
    owner = Owner(name, str(getattr(origin, "__module__", None) or type(origin).__module__), _OWN)
    registry.add(Backend(kind, name, lambda **_: part, "", owner))
    return changed(config, kind, name=name, options=recorded(part.options))


def _free_name(registry: Registry, kind: str, origin: Any) -> str:
    words = re.sub(r"[^A-Za-z0-9._-]+", "", str(getattr(origin, "__name__", None) or type(origin).__name__))
    name = words.lstrip("._-") or kind
    taken, number, first = registry.names(kind), 2, name
    while name in taken:
        name, number = f"{first}-{number}", number + 1
    return name


def _shown(value: object) -> str:
    return getattr(value, "__name__", None) or type(value).__name__

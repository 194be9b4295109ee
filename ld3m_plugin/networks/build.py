"""Build networks by name, with checked settings and reproducible initial weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ld3m_plugin.backends import conforming
from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.errors import InvalidOptionError, UnknownOptionError, nearest
from ld3m_plugin.networks.first_pass import try_once
from ld3m_plugin.randomness import lent_to_global
from ld3m_plugin.registry import Registry, blaming, current_registry, described, use_registry


def get_network(
    name: str,
    *,
    rng: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    registry: Registry | None = None,
    **settings: Any,
) -> Network:
    """Build and initialise a network.

    Args:
        name: as registered by a plugin, such as "ConvNet".
        rng: stream of the initial weights, on the CPU; the weights depend on its state alone, and torch's global stream is
            left unchanged. Without it, weights come from the global stream.
        device: device to move the network to, after it is initialised on the CPU.
        registry: where names are looked up; default: those of `use_registry`, else the installed plugins.
        settings: `channels`, `image_size`, `num_classes` and the network's other settings.

    Raises:
        UnknownBackendError: no plugin registered `name`.
        UnknownOptionError: the network has no such setting.
        InvalidOptionError: a setting is missing, or its value is not allowed.
        PluginLoadError: the plugin's factory does not return a `Network`.
        PluginFailedError: it raised, or the network does not map images to logits.
    """
    with use_registry(registry):
        factory = current_registry().resolve("network", name)
        _check_names(name, factory, settings)
        try_once(name, factory, settings)
        with blaming("network", name, "its constructor"), nullcontext() if rng is None else lent_to_global(rng):
            network = factory(**settings)
        network = conforming("network", name, network, Network)
        network.called = described("network", name)
        return network.to(device, non_blocking=True)


def network_for(task: Task, name: str, settings: Mapping[str, Any], rng: torch.Generator) -> Network:
    """Build a network for the task's images and classes, on its device; see `get_network` for the arguments and errors."""
    shape: dict[str, Any] = {key: getattr(task, key) for key in ("channels", "image_size", "num_classes")}
    return get_network(name, rng=rng, device=task.device, **shape, **settings)


def for_forward(network: Network) -> Network:
    """Lay out the weights, in place, for fast forward passes; values, names and shapes do not change.

    On the CPU, channels last is faster forward, but slower with a backward pass through group norm: see `for_training`.
    """
    return network.to(memory_format=torch.channels_last) if _on_the_cpu(network) else network


def for_training(network: Network) -> Network:
    """Lay out the weights, in place, for fast training; values, names and shapes do not change.

    On the CPU, that is channels last for networks without a norm; the others keep their layout (docs/speed.md says how much it
    saves).
    """
    normalised = any(isinstance(layer, _NORMS) for layer in network.modules())
    return network if normalised else for_forward(network)


_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase)


def _on_the_cpu(network: Network) -> bool:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    return device.type == "cpu"


def _check_names(network: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for setting in settings:
            if setting not in known:
                raise UnknownOptionError(f"network {network!r} has no setting {setting!r}; {nearest(setting, known)}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in settings]
    if missing:
        raise InvalidOptionError(f"network {network!r} needs a value for {', '.join(missing)}")

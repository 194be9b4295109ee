"""The key of a store: a folder name made of everything that decides an expert."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ld3m_plugin.contracts import Task
from ld3m_plugin.data.identity import data_digest, sha256, whitening_facts
from ld3m_plugin.errors import InvalidOptionError, PluginFailedError
from ld3m_plugin.objectives.matching import check_no_batch_norm, random_network
from ld3m_plugin.objectives.mtt.store.expert_settings import EXTENT, ExpertSettings
from ld3m_plugin.objectives.mtt.store.store_format import FORMAT
from ld3m_plugin.options import options_model
from ld3m_plugin.registry import current_registry

_DIGEST = 12  # hexadecimal digits in a key

#: Names and shapes in the order of `module.parameters()`.
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def decisive(task: Task, settings: ExpertSettings) -> dict[str, Any]:
    """Everything that decides an expert, as plain data: the data without its name and place, and the settings.

    The network's defaults are filled in: naming a default changes nothing.
    """
    chosen = settings.model_dump(mode="json", exclude=set(EXTENT))
    chosen["network_settings"] = {**_defaults(settings.network), **chosen["network_settings"]}
    return {
        "format": FORMAT,
        "data": {
            "digest": data_digest(task),
            # Statistics of a folder are sums in floating point: the last digits are the machine's.
            "mean": [round(value, 5) for value in task.mean],
            "std": [round(value, 5) for value in task.std],
            **whitening_facts(task),
        },
        "settings": chosen,
    }


def key_of(task: Task, settings: ExpertSettings) -> str:
    """The folder's name: a readable part, then a digest of everything that decides an expert."""
    digest = sha256(decisive(task, settings))[:_DIGEST]
    return f"{settings.network}-{task.image_size}px-{task.num_classes}classes-{digest}"


def is_key(name: str) -> bool:
    """Whether a folder's name has the form of a store's key."""
    return re.search(rf"-\d+px-\d+classes-[0-9a-f]{{{_DIGEST}}}$", name) is not None


def is_key_of(key: str, facts: Mapping[str, Any]) -> bool:
    """Whether a key was made from these facts, an outcome of `decisive`."""
    return key.endswith(f"-{sha256(facts)[:_DIGEST]}")


def parameter_shapes(task: Task, settings: ExpertSettings) -> Shapes:
    """Names and shapes of the network's parameters.

    Raises:
        InvalidOptionError: its parameters do not fit into memory, or it has batch norm.
    """
    try:
        network = random_network(settings, task.to("cpu"), torch.Generator())
    except (RuntimeError, TypeError, MemoryError, PluginFailedError) as error:
        # On the CPU, torch has no type for lack of memory; any other error is a bug in the network.
        if not isinstance(error, MemoryError) and not re.search("allocate|[Oo]verflow", str(error)):
            raise
        raise InvalidOptionError(
            f"network {settings.network!r} with network_settings {as_option(settings.network_settings)} does not fit "
            "into memory: choose a smaller one"
        ) from error
    check_no_batch_norm(settings.network, network)
    return shapes_of(network)


def shapes_of(network: nn.Module) -> Shapes:
    """Names and shapes of a network's parameters."""
    return tuple((name, tuple(parameter.shape)) for name, parameter in network.named_parameters())


def differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted path -> both values, where two nested mappings differ; a missing value is None.

    >>> differences({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4, "d": 3}})
    {'b.c': (2, 4)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found[prefix + name] = (one, other)
    return found


def _defaults(network: str) -> dict[str, Any]:
    factory = current_registry().resolve("network", network)
    model = options_model(factory)
    if model is not None:
        stated = model().model_dump(mode="json")
    else:
        stated = {
            name: p.default for name, p in inspect.signature(factory).parameters.items() if p.default is not p.empty
        }
    return {name: value for name, value in stated.items() if isinstance(value, int | float | str | None)}


def as_option(value: Any) -> str:
    """Write a value as the command line reads it: a plain word, or JSON, which is YAML."""
    return value if isinstance(value, str) else json.dumps(value)

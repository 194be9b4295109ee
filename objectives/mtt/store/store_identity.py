"""The key of a store: a name for everything that decides what an expert is."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.data.identity import data_digest, sha256
from ld3m_plugin.errors import ExpertError, InvalidOptionError
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.experts import check_no_batch_norm
from ld3m_plugin.objectives.mtt.store.expert_settings import EXTENT, ExpertSettings, TrainingOptions
from ld3m_plugin.options import options_model
from ld3m_plugin.registry import current_registry

#: Changes when the same settings would train other experts or write other files.
FORMAT = "ld3m-experts-2"
_ANY_FORMAT = re.compile(r"ld3m-experts-\d+")
_DIGEST = 12  # hexadecimal digits in a key

#: Names and shapes in the order of `module.parameters()`.
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def decisive(task: Task, settings: ExpertSettings) -> dict[str, Any]:
    """Everything that decides an expert, as plain data: the data without its name and place, and the settings.

    Settings of the network that were left out have its defaults, so that naming a default changes nothing.
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
        },
        "settings": chosen,
    }


def key_of(task: Task, settings: ExpertSettings) -> str:
    """The folder's name: what people look for, then a digest of everything."""
    digest = sha256(decisive(task, settings))[:_DIGEST]
    return f"{settings.network}-{task.image_size}px-{task.num_classes}classes-{digest}"


def is_key(name: str) -> bool:
    """Whether a folder of this name looks like a store's."""
    return re.search(rf"-\d+px-\d+classes-[0-9a-f]{{{_DIGEST}}}$", name) is not None


def is_key_of(key: str, facts: Mapping[str, Any]) -> bool:
    """Whether a key was made from these facts, which `decisive` gave."""
    return key.endswith(f"-{sha256(facts)[:_DIGEST]}")


class OtherVersionError(ExpertError):
    """A file or a folder of experts that another version of this library wrote: it is whole, and cannot be read here."""


def check_format(where: Path, found: object) -> None:
    """Raise `OtherVersionError` if `found` is the format of another version; what is no format at all is not judged here."""
    if isinstance(found, str) and found != FORMAT and _ANY_FORMAT.fullmatch(found):
        raise OtherVersionError(
            f"{where} was written by another version of this library (format {found}; {FORMAT} is read here): choose another "
            "--root, or move it away and train or import anew"
        )


def parameter_shapes(task: Task, settings: ExpertSettings) -> Shapes:
    """Names and shapes of the network's parameters.

    Raises:
        InvalidOptionError: its parameters do not fit into memory, or are not all that an expert would have to keep.
    """
    network = _made(task, settings)
    check_no_batch_norm(settings.network, network)
    return shapes_of(network)


def shapes_of(network: nn.Module) -> Shapes:
    """Names and shapes of a network's parameters."""
    return tuple((name, tuple(parameter.shape)) for name, parameter in network.named_parameters())


def command(root: Path, task: Task, options: TrainingOptions) -> str:
    """The command line that trains what is missing of these experts in `root`."""
    words = ["ld3m", "experts", "train", "--root", str(root), "--data", task.name]
    for name, value in task.read_with.items():
        words += ["-D", f"{name}={_written(value)}"]
    defaults = TrainingOptions()
    for name, value in options.model_dump(mode="json").items():
        if value != getattr(defaults, name):
            words += ["-S", f"{name}={_written(value)}"]
    return shlex.join(words)


def differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted path -> both values, of what differs between nested mappings; a value that is not there is None.

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


def _made(task: Task, settings: ExpertSettings) -> Network:
    try:
        return random_network(settings, task.to("cpu"), torch.Generator())
    except (RuntimeError, TypeError, MemoryError) as error:
        # On the CPU, torch has no type of its own for it; any other error is a mistake in the network.
        if not isinstance(error, MemoryError) and not re.search("allocate|[Oo]verflow", str(error)):
            raise
        raise InvalidOptionError(
            f"network {settings.network!r} with network_settings {_written(settings.network_settings)} does not fit into "
            "memory: choose a smaller one"
        ) from error


def _defaults(network: str) -> dict[str, Any]:
    factory = current_registry().resolve("network", network)
    model = options_model(factory)
    if model is not None:
        stated = model().model_dump(mode="json")
    else:
        stated = {
            name: p.default for name, p in inspect.signature(factory).parameters.items() if p.default is not p.empty
        }
    return {name: value for name, value in stated.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _written(value: Any) -> str:
    # JSON is YAML, which the command line reads; a plain word stays one.
    return value if isinstance(value, str) else json.dumps(value)

"""The ConvNet that has parameters of given shapes: what a buffer that does not fit was probably made with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from math import isqrt
from typing import Any

import torch

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import HostError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store.store_identity import shapes_of

Shape = tuple[int, ...]
# Norms whose scale and shift have one number per channel cannot be told apart; the published one comes first.
_NORMS = ("instancenorm", "none", "layernorm")


def what_fits(found: Sequence[Shape], task: Task) -> str:
    """Advise on parameter shapes that are not those of the chosen network."""
    fitting = fitting_convnet(found)
    if fitting is None:
        return "no ConvNet fits either: name another with -S network=NAME -S network_settings={...}"
    settings = "-S network=ConvNet -S 'network_settings={{depth: {depth}, width: {width}, norm: {norm}}}'"
    facts = {"channels": task.channels, "image_size": task.image_size, "num_classes": task.num_classes}
    if facts.items() <= fitting.items():
        return f"{settings} fits".format(**fitting)
    data = "it fits data of {channels} channels, {image_size} pixels and {num_classes} classes"
    return f"{data} with {settings}: choose other --data or -D".format(**fitting)


def fitting_convnet(found: Sequence[Shape]) -> dict[str, int | str] | None:
    """Derive the settings of the ConvNet with these parameter shapes, and check them; None if there is none."""
    convolutions = [shape for shape in found if len(shape) == 4]
    if not convolutions or len(found) < 2 or len(found[-2]) != 2:
        return None
    depth, (width, channels, *_) = len(convolutions), convolutions[0]
    num_classes, features = found[-2]
    if features % width:
        return None
    facts = {"channels": channels, "image_size": isqrt(features // width) * 2**depth, "num_classes": num_classes}
    for norm in _NORMS:
        settings: dict[str, Any] = {**facts, "depth": depth, "width": width, "norm": norm}
        with suppress(HostError):
            network = get_network("ConvNet", rng=torch.Generator(), **settings)
            if [shape for _, shape in shapes_of(network)] == list(found):
                return settings
    return None

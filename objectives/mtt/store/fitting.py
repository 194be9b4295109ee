"""Which ConvNet has parameters of given shapes: what a buffer that does not fit was probably made with."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch

from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import HostError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store.store_identity import shapes_of

Shape = tuple[int, ...]
_SETTINGS = ("depth", "width", "norm")
# Norms whose scale and shift are one number a channel cannot be told apart; the published one comes first.
_NORMS = ("instancenorm", "none", "layernorm")


def what_fits(found: Sequence[Shape], task: Task) -> str:
    """Advice for shapes that are not those of the network that was named."""
    fitting = fitting_convnet(found)
    if fitting is None:
        return (
            "no ConvNet fits either: name the network and its settings with -S network=NAME -S network_settings={...}"
        )
    settings = (
        f"-S network=ConvNet -S 'network_settings={{{', '.join(f'{name}: {fitting[name]}' for name in _SETTINGS)}}}'"
    )
    facts = {"channels": task.channels, "image_size": task.image_size, "num_classes": task.num_classes}
    if all(fitting[name] == value for name, value in facts.items()):
        return f"{settings} fits"
    made_for = "{channels} channels, {image_size} pixels and {num_classes} classes".format(**fitting)
    return f"it fits data of {made_for} with {settings}: choose other --data or -D"


def fitting_convnet(found: Sequence[Shape]) -> dict[str, int | str] | None:
    """Settings of the ConvNet with these parameters, found from them and then tried; None if there is none."""
    convolutions = [shape for shape in found if len(shape) == 4]
    if not convolutions or len(found) < 2 or len(found[-2]) != 2:
        return None
    depth, width, channels = len(convolutions), convolutions[0][0], convolutions[0][1]
    num_classes, features = found[-2]
    if features % width:
        return None
    image_size = isqrt(features // width) * 2**depth
    for norm in _NORMS:
        facts = {"channels": channels, "image_size": image_size, "num_classes": num_classes}
        settings: dict[str, int | str] = {"depth": depth, "width": width, "norm": norm}
        if _has_shapes({**facts, **settings}, found):
            return {**facts, **settings}
    return None


def _has_shapes(settings: dict[str, Any], found: Sequence[Shape]) -> bool:
    try:
        network = get_network("ConvNet", rng=torch.Generator(), **settings)
    except HostError:
        return False
    return [shape for _, shape in shapes_of(network)] == list(found)

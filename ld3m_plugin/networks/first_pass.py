"""One pass of a network of each architecture, before the work that relies on it: a fault is one line that names the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ld3m_plugin.backends import conforming
from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import PluginFailedError
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.registry import blaming, described

_IMAGES = 2
_tried: set[tuple[Callable[..., Any], str]] = set()


def try_once(name: str, factory: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Build a network of its own and pass two images through it, as training and testing do; once for the same settings.

    It is on the CPU and draws from a stream of its own: networks that are built later are the same as without it.

    Raises:
        PluginFailedError: the network raises, or gives something else than finite float32 logits (2, K) and features (2, F).
        PluginLoadError: the factory does not give a `Network`.
    """
    key = factory, repr(sorted(settings.items()))
    if key in _tried:
        return
    channels, size, classes = (settings[key] for key in ("channels", "image_size", "num_classes"))
    images = torch.randn(_IMAGES, channels, size, size, generator=stream(0, "first pass"))
    with lent_to_global(stream(0, "first pass of a network")), torch.autocast("cpu", enabled=False):
        with blaming("network", name, "its constructor"):
            network = conforming("network", name, factory(**settings), Network)
        with torch.enable_grad(), blaming("network", name, "a training step"):
            logits = _checked(name, "forward", network.train()(images), classes)
            F.cross_entropy(logits, torch.arange(_IMAGES) % classes).backward()
        with torch.no_grad(), blaming("network", name, "testing"):
            _checked(name, "forward", network.eval()(images), classes)
            if type(network).embed is not Network.embed:
                _checked(name, "embed", network.embed(images), None)
    _tried.add(key)


def _checked(name: str, method: str, given: Any, width: int | None) -> Tensor:
    """Return `given` if it is finite float32 (2, `width`); None stands for any width."""
    wanted = f"float32 ({_IMAGES}, {'F' if width is None else width}) for {_IMAGES} images"
    who = f"{described('network', name)}: {method}"
    if not isinstance(given, Tensor):
        raise PluginFailedError(f"{who} gave a {type(given).__name__}, not a tensor: it must be {wanted}")
    if (
        given.ndim != 2
        or len(given) != _IMAGES
        or (width or given.shape[1]) != given.shape[1]
        or given.dtype != torch.float32
    ):
        raise PluginFailedError(f"{who} gave {given.dtype} {tuple(given.shape)}: it must be {wanted}")
    if not torch.isfinite(given).all():
        raise PluginFailedError(f"{who} gave values that are NaN or infinite for images of a new network")
    return given

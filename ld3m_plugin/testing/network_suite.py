"""The rules of networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import UsageError
from ld3m_plugin.networks.build import for_forward, get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, Registry
from ld3m_plugin.testing.tiny_task import rules

_IMAGES, _CLASSES, _NO_SETTING = 4, 3, "no_such_setting_of_any_network"
_SAME = 1e-4  # relative L2: the order of float32 sums depends on the batch size


def check_network(factory: Callable[..., Network], image_size: int = 16, **settings: Any) -> None:
    """Check a network against the contract, on gray images and in colour.

    Finite float32 logits (N, K) and, where it has `embed`, features (N, F); initial weights that depend on the stream alone;
    in `eval` an image's logits do not depend on the others; gradients that reach the images and every weight; a copy and a
    loaded state give the same logits, and so do weights laid out channels last (`flatten` and `reshape` take any layout, `view`
    does not); unknown settings are refused; the global random stream stays untouched.

    Args:
        factory: what `register_networks` registers, called as `factory(channels=, image_size=, num_classes=, **settings)`.
        image_size: H = W of the images.
        settings: the network's other settings.

    Raises:
        AssertionError: a rule is broken; the message states it.
    """
    for channels in (1, 3):
        with rules("a network"):
            _check_network(
                factory, {"channels": channels, "image_size": image_size, "num_classes": _CLASSES, **settings}
            )


def _check_network(factory: Callable[..., Network], settings: dict[str, Any]) -> None:
    images = torch.randn(_IMAGES, settings["channels"], *(2 * [settings["image_size"]]), generator=stream(0, "images"))
    network, same, other = (_built(factory, settings, seed) for seed in (0, 0, 1))
    _check_gradients(same, images)
    network.eval()
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (_IMAGES, _CLASSES), f"logits must be (N, K), they are {tuple(logits.shape)}"
        alone = torch.cat([network(one) for one in images.split(1)])
        assert (alone - logits).norm() <= _SAME * logits.norm(), "in eval(), logits must not depend on the other images"
        repeated = _built(factory, settings, 0).eval()
        assert torch.equal(repeated(images), logits), "the same stream must give the same initial weights"
        assert not torch.equal(other.eval()(images), logits), "another stream must give other initial weights"
        assert torch.equal(copy.deepcopy(network)(images), logits), "a copy must give the same logits"
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(images), logits), "a network with the loaded state must give the same logits"
        _check_layout(copy.deepcopy(network), images, logits)
        if type(network).embed is not Network.embed:
            features = network.embed(images)
            assert features.ndim == 2, f"embed must give (N, F), it gives {tuple(features.shape)}"
    _check_settings(factory, settings)


def _built(factory: Callable[..., Network], settings: dict[str, Any], seed: int) -> Network:
    registry = Registry()
    registry.add(Backend("network", "checked", factory, "", Owner("checked", "the checked network", "")))
    return get_network("checked", rng=stream(seed, "network"), registry=registry, **settings)


def _check_gradients(network: Network, images: torch.Tensor) -> None:
    leaf = images.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]):  # dropout may draw
        F.cross_entropy(network.train()(leaf), torch.arange(_IMAGES) % _CLASSES).backward()
    assert leaf.grad is not None and bool(leaf.grad.abs().sum() > 0), "gradients must reach the images"
    for name, weight in network.named_parameters():
        assert not weight.requires_grad or weight.grad is not None, f"no gradient reaches the weight {name!r}"


def _check_layout(network: Network, images: torch.Tensor, logits: torch.Tensor) -> None:
    try:
        laid_out = for_forward(network)(images)
    except RuntimeError as error:
        raise AssertionError(
            f"weights must work channels last: use flatten or reshape in place of view ({error})"
        ) from error
    assert (laid_out - logits).norm() <= _SAME * logits.norm(), (
        "weights laid out channels last must give the same logits"
    )


def _check_settings(factory: Callable[..., Network], settings: dict[str, Any]) -> None:
    try:
        _built(factory, {**settings, _NO_SETTING: 1}, 0)
    except UsageError:
        return
    raise AssertionError(
        "an unknown setting must be refused by a UsageError: validate **settings with ld3m_plugin.options.build, or name them"
    )

"""Mistakes in the network of a plugin: one line that names the network and its distribution, before anything relies on it."""

import pytest
import torch
from torch import nn

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError, PluginFailedError, PluginLoadError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.networks.first_pass import try_once
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry, use_registry

SHAPE = {"channels": 1, "image_size": 8, "num_classes": 3}


class Linear(Network):
    """One layer, with a random number that only a first pass draws more often."""

    more = 0
    made = 0

    def __init__(self, *, channels, image_size, num_classes):
        super().__init__()
        type(self).made += 1
        self.layer = nn.Linear(channels * image_size**2, num_classes + self.more)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.layer(self.dropout(self.embed(images)))

    def embed(self, images):
        return images.flatten(1)


def network(factory, **options):
    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    registry.add(Backend("network", "W", factory, "", Owner("wrong", "ld3m-wrong", "0.0.1")))
    return get_network("W", registry=registry, **{**SHAPE, **options})


def with_method(name, method):
    return type("Wrong", (Linear,), {name: method})


def fails(self, *_):
    raise ValueError("broken")


def fails_in_training(self, images):
    return fails(self) if self.training else Linear.forward(self, images)


def fails_in_testing(self, images):
    return Linear.forward(self, images) if self.training else fails(self)


WRONG = {
    "one logit more": (type("More", (Linear,), {"more": 1}), r"forward gave .*\(2, 4\): it must be float32 \(2, 3\)"),
    "a tuple": (with_method("forward", lambda self, x: (Linear.forward(self, x), 1)), "forward gave a tuple"),
    "float64": (with_method("forward", lambda self, x: Linear.forward(self, x).double()), "float64"),
    "NaN": (with_method("forward", lambda self, x: Linear.forward(self, x) * float("nan")), "NaN"),
    "features that are images": (
        type("Wrong", (Linear,), {"embed": lambda self, x: x, "forward": lambda self, x: self.layer(x.flatten(1))}),
        r"embed gave .*\(2, 1, 8, 8\): it must be float32 \(2, F\)",
    ),
    "one row": (with_method("embed", lambda self, x: x.flatten(1)[:1]), r"forward gave .*\(1, 3\)"),
    "raises": (with_method("forward", fails), r"training step: ValueError: broken \(test_network_faults.py:"),
    "raises in training": (with_method("forward", fails_in_training), "training step: ValueError: broken"),
    "raises in testing": (with_method("forward", fails_in_testing), "testing: ValueError: broken"),
    "raises when it is built": (
        with_method("__init__", lambda self, **_: fails(self)),
        "constructor: ValueError: broken",
    ),
    "without super": (
        with_method("__init__", lambda self, **_: setattr(self, "layer", nn.Linear(1, 1))),
        "constructor: AttributeError",
    ),
}


@pytest.mark.parametrize(("factory", "named"), WRONG.values(), ids=WRONG)
def test_a_fault_is_one_line_before_the_network_is_used(factory, named):
    with pytest.raises(PluginFailedError, match=rf"network 'W' of ld3m-wrong 0\.0\.1.*(?:{named})") as caught:
        network(factory)
    assert "\n" not in str(caught.value)


def test_something_else_than_a_network_is_one_line():
    with pytest.raises(PluginLoadError, match="'W'"):
        network(lambda **_: nn.Identity())


def test_a_network_without_features_is_named():
    class Plain(Linear):
        embed = Network.embed

        def forward(self, images):
            return self.layer(images.flatten(1))

    made = network(Plain)
    with pytest.raises(InvalidOptionError, match=r"network 'W' of ld3m-wrong 0\.0\.1 gives no features"):
        made.embed(torch.zeros(2, 1, 8, 8))


def test_the_first_pass_changes_no_weight_and_no_stream():
    class Counted(Linear):
        made = 0

    rng, before = stream(3), torch.get_rng_state()
    first = network(Counted, rng=rng)
    state = rng.get_state()
    again = stream(3)
    second = network(Counted, rng=again)
    assert Counted.made == 3  # one of them for the pass
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(state, again.get_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.training


def test_each_shape_is_tried_once():
    class Counted(Linear):
        made = 0

    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    registry.add(Backend("network", "W", Counted, "", Owner("wrong", "ld3m-wrong", "0.0.1")))
    with use_registry(registry):
        for size in (8, 8, 9):
            try_once("W", Counted, {**SHAPE, "image_size": size})
    assert Counted.made == 2

"""Networks by name: registration, checked settings, weights that repeat."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from ld3m_plugin import networks
from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError, PluginLoadError, UnknownBackendError, UnknownOptionError
from ld3m_plugin.networks.build import for_forward, for_training, get_network
from ld3m_plugin.networks.convnet import ConvNet
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, Registry

SHAPE = {"channels": 1, "image_size": 16, "num_classes": 3}


def registry_of(name, factory):
    registry = Registry()
    registry.add(Backend("network", name, factory, "", Owner("networks", "a-distribution", "1.0")))
    return registry


build = partial(get_network, "ConvNet", registry=registry_of("ConvNet", ConvNet))


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_a_registered_network_is_built_by_its_name():
    registry = registry_of("Mine", "ld3m_plugin.networks.convnet:ConvNet")
    assert isinstance(get_network("Mine", registry=registry, **SHAPE), ConvNet)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(UnknownBackendError, match=r"'Convnet'.*'ConvNet'"):
        get_network("Convnet", registry=registry_of("ConvNet", ConvNet), **SHAPE)


def test_a_factory_that_gives_no_network_is_refused():
    registry = registry_of("Layer", lambda channels, image_size, num_classes: torch.nn.Linear(1, 1))
    with pytest.raises(PluginLoadError, match=r"'Layer'.*Linear.*ld3m_plugin\.contracts\.Network"):
        get_network("Layer", registry=registry, **SHAPE)


@pytest.mark.parametrize("name", ["ConvNet", "AlexNet", "VGG11", "ResNet18", "ViT"])
def test_built_in_networks_are_installed(name):
    network = get_network(name, rng=stream(0, "weights"), channels=1, image_size=28, num_classes=3)
    assert isinstance(network, Network)
    assert type(network).__name__ == name


def test_equal_streams_give_equal_weights():
    first, second = (weights(build(rng=stream(3, "weights"), **SHAPE)) for _ in range(2))
    assert torch.equal(first, second)


def test_other_streams_give_other_weights():
    assert not torch.equal(*(weights(build(rng=stream(seed, "weights"), **SHAPE)) for seed in (0, 1)))


def test_a_stream_moves_on_from_network_to_network():
    rng = stream(0, "weights")
    assert not torch.equal(*(weights(build(rng=rng, **SHAPE)) for _ in range(2)))


def test_the_global_stream_is_left_alone_and_has_no_say():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(build(rng=stream(0, "weights"), **SHAPE))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(build(rng=stream(0, "weights"), **SHAPE)), first)


def test_without_a_stream_weights_come_from_the_global_one():
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(weights(build(**SHAPE)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_failed_build_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    with pytest.raises(InvalidOptionError):
        build(rng=stream(0, "weights"), norm="no such norm", **SHAPE)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_network_is_moved_to_the_device():
    network = build(device="meta", **SHAPE)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UnknownOptionError, match=r"'ConvNet'.*'dept'.*'depth'"):
        build(dept=3, **SHAPE)


def test_missing_settings_are_named():
    with pytest.raises(InvalidOptionError, match=r"'ConvNet'.*image_size, num_classes"):
        build(channels=3)


def test_a_factory_that_takes_any_keyword_is_given_any():
    def factory(channels, image_size, num_classes, **settings):
        return ConvNet(channels=channels, image_size=image_size, num_classes=num_classes, width=settings["anything"])

    assert get_network("Open", registry=registry_of("Open", factory), anything=4, **SHAPE).features[0].out_channels == 4


def test_registered_names_and_summaries():
    registered = {}
    networks.register_networks(lambda name, factory, summary: registered.update({name: (factory, summary)}))
    published = {"ConvNet", "AlexNet", "VGG11", "ResNet18", "ViT"}
    assert registered.keys() == published | {"MLP", "SmallViT", "MaxConvNet", "ResNet8"}
    assert all(isinstance(factory, str) and summary for factory, summary in registered.values())


def test_registering_imports_no_torch():
    program = "import sys, ld3m_plugin.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


@torch.no_grad()
def test_the_layout_for_forward_passes_changes_nothing_but_the_order_in_memory():
    network = get_network("ConvNet", channels=3, image_size=16, num_classes=3, depth=2, width=8)
    assert all(weight.is_contiguous() for weight in network.parameters())
    images, names = torch.randn(4, 3, 16, 16), list(network.state_dict())
    before, values = network(images), [weight.clone() for weight in network.parameters()]
    assert for_forward(network) is network
    assert network.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert list(network.state_dict()) == names
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), values, strict=True))
    torch.testing.assert_close(network(images), before)


def test_networks_without_a_norm_are_trained_channels_last():
    size = {"channels": 3, "image_size": 16, "num_classes": 3}
    for name, settings in (("ConvNet", {"norm": "instancenorm"}), ("ConvNet", {"norm": "batchnorm"}), ("ResNet8", {})):
        network = for_training(get_network(name, **size, **settings))
        assert all(weight.is_contiguous() for weight in network.parameters())
    network = for_training(get_network("MaxConvNet", **size))
    weights = [weight for weight in network.parameters() if weight.ndim == 4]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("settings", [{}, {"norm": "none", "pooling": "max"}])
def test_the_layout_for_training_changes_no_gradient(settings):
    size = {"channels": 3, "image_size": 16, "num_classes": 3}
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for layout in (lambda network: network, for_training):
        network = layout(get_network("ConvNet", rng=torch.Generator().manual_seed(1), **size, **settings).double())
        network(images).square().sum().backward()
        found.append([weight.grad for weight in network.parameters()])
    for plain, laid_out in zip(*found, strict=True):
        torch.testing.assert_close(plain, laid_out, rtol=1e-12, atol=1e-12)

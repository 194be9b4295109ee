"""The cheap networks of protocol `unseen`: sizes counted by hand, defaults, settings."""

import pytest
import torch
from torch import nn

from ld3m_plugin.errors import InvalidOptionError, UnknownOptionError
from ld3m_plugin.evaluation import get_protocol
from ld3m_plugin.networks.build import get_network

NAMES = ["MLP", "SmallViT", "MaxConvNet", "ResNet8"]
#: Parameters at 32x32 gray and 10 classes.
PARAMETERS = {
    "MLP": 1024 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10,
    # 16 patches of 64 pixels; tokens and positions; three layers of query, key, value, output and two linear layers; the head
    "SmallViT": 65 * 64 + (17 + 1) * 64 + 3 * (64 * 192 + 64 * 64 + 64 + 64 * 128 + 128 + 128 * 64 + 64) + 64 * 10 + 10,
    "MaxConvNet": 9 * 32 + 32 + 2 * (9 * 32 * 32 + 32) + 32 * 16 * 10 + 10,
    # convolutions without bias, each with a scale and a shift per channel; two shortcuts
    "ResNet8": 9 * 16
    + 2 * 9 * 16 * 16
    + 9 * 16 * 32
    + 9 * 32 * 32
    + 16 * 32
    + 9 * 32 * 64
    + 9 * 64 * 64
    + 32 * 64
    + 2 * (3 * 16 + 3 * 32 + 3 * 64)
    + 64 * 10
    + 10,
}


def build(name, size=32, channels=1, **settings):
    rng = torch.Generator().manual_seed(0)
    return get_network(name, rng=rng, channels=channels, image_size=size, num_classes=10, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_has_the_parameters_that_its_layers_add_up_to(name):
    assert sum(p.numel() for p in build(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3)])
@torch.no_grad()
def test_logits_come_from_the_embedding(name, size, channels):
    network = build(name, size, channels).eval()
    images = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    assert network(images).shape == (2, 10)
    torch.testing.assert_close(last(network.embed(images)), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_reaches_every_parameter_and_can_be_differentiated_again(name):
    network = build(name).eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = nn.functional.cross_entropy(network(images), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    (second,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), images)
    assert second.isfinite().all()
    assert second.any()


def test_defaults_can_be_changed_and_mistakes_are_refused():
    assert len(build("MLP", depth=3, width=8).features) == 1 + 2 * 3
    assert build("SmallViT", patch_size=8).pos_embedding.shape == (1, 17, 64)
    assert build("SmallViT", size=64).pos_embedding.shape == (1, 17, 64)
    assert any(isinstance(layer, nn.AvgPool2d) for layer in build("MaxConvNet", pooling="avg").features)
    assert not any(isinstance(layer, nn.GroupNorm) for layer in build("MaxConvNet").features)
    assert any(isinstance(layer, nn.MaxPool2d) for layer in build("MaxConvNet").features)
    with pytest.raises(InvalidOptionError, match=r"'SmallViT'.*heads"):
        build("SmallViT", dim=6)
    with pytest.raises(UnknownOptionError, match=r"'MaxConvNet'.*'widht'"):
        build("MaxConvNet", widht=8)
    with pytest.raises(InvalidOptionError, match=r"ResNet8.*at least 5"):
        build("ResNet8", size=4)


def test_protocol_unseen_trains_them_at_rates_of_their_own():
    protocol = get_protocol("unseen")
    assert list(protocol.networks) == NAMES
    assert all(protocol.rate(name) > 0 for name in NAMES)
    assert protocol.gradient_clip is None

"""The fast layers beside torch's own: the same bits where promised, the same derivatives of every order."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vjp, vmap
from torch.nn import functional as F

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.networks.fast_layers import AveragePooling, Convolution, InstanceNorm
from ld3m_plugin.randomness import stream

#: Layers of 3 and of 9 channels: few, and many, for the gradient of a convolution.
LAYERS = {
    "few channels": (lambda: Convolution(3, 4, 3, padding=1), nn.Conv2d, 3),
    "many channels": (lambda: Convolution(9, 4, 3, padding=1), nn.Conv2d, 9),
    "padded to 32": (lambda: Convolution(1, 4, 3, padding=3), nn.Conv2d, 1),
    "instance norm": (lambda: InstanceNorm(3), nn.GroupNorm, 3),
    "average pooling": (AveragePooling, nn.AvgPool2d, 3),
}

every_layer = pytest.mark.parametrize("name", LAYERS)


def noise(*shape, dtype=torch.float32, name="maps"):
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64).to(dtype)


def made(name, dtype=torch.float32):
    """A layer with random parameters, torch's class, and the number of channels."""
    make, torch_class, channels = LAYERS[name]
    layer = make().to(dtype)
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(noise(*parameter.shape, name=index))
    return layer, torch_class, channels


def derivatives(forward, layer, maps, order):
    """The derivatives of order 1 to `order` of curved sums, with respect to maps and parameters."""
    leaf = maps.clone().requires_grad_()
    value, found = forward(layer, leaf).sin().sum(), []
    for _ in range(order):
        gradients = torch.autograd.grad(value, (leaf, *layer.parameters()), create_graph=True)
        value = sum((gradient + 1).cos().sum() for gradient in gradients)
        found.append([gradient.detach() for gradient in gradients])
    return found


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize("size", [(4, 4), (5, 3)])
def test_derivatives_equal_finite_differences(name, size):
    layer, _, channels = made(name, torch.float64)
    maps = noise(2, channels, *size, dtype=torch.float64).requires_grad_()
    parameters = tuple(layer.parameters())

    def forward(maps, *values):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (maps,))

    fast = forward(maps, *parameters)
    assert type(fast.grad_fn).__name__ not in ("ConvolutionBackward0", "NativeGroupNormBackward0", "AvgPool2DBackward0")
    assert gradcheck(forward, (maps, *parameters), fast_mode=True)
    assert gradgradcheck(forward, (maps, *parameters), fast_mode=True)


@every_layer
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_values_and_first_derivatives_are_torchs_own_bits(name, size, relative_error):
    layer, torch_class, channels = made(name)
    maps = noise(3, channels, *size)
    assert torch.equal(layer(maps), torch_class.forward(layer, maps))
    ours, theirs = (
        torch.autograd.grad(forward(layer, leaf).sin().sum(), (leaf, *layer.parameters()))
        for forward in (type(layer).forward, torch_class.forward)
        for leaf in [maps.clone().requires_grad_()]
    )
    few = name in ("few channels", "padded to 32")
    assert all(torch.equal(one, other) for one, other in zip(ours[few:], theirs[few:], strict=True))
    if few:  # a matrix product in place of oneDNN's
        assert relative_error(ours[0], theirs[0]) < 1e-6


@pytest.mark.slow
@every_layer
def test_first_to_third_derivatives_equal_those_of_torch(name, relative_error):
    layer, torch_class, channels = made(name, torch.float64)
    maps = noise(3, channels, 5, 6, dtype=torch.float64)
    ours, theirs = (derivatives(forward, layer, maps, 3) for forward in (type(layer).forward, torch_class.forward))
    for one, other in zip(ours, theirs, strict=True):
        assert all(relative_error(a, b) < 1e-11 for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@every_layer
def test_transformed_derivatives_equal_one_by_one(name, relative_error):
    layer, _, channels = made(name, torch.float64)
    maps = noise(3, 2, channels, 4, 4, dtype=torch.float64)

    def second(maps):
        return grad(lambda maps: grad(lambda maps: layer(maps).sin().sum())(maps).cos().sum())(maps)

    one_by_one = torch.stack([derivatives_of_maps(layer, part) for part in maps])
    for together in (vmap(second)(maps), vmap(second, in_dims=1)(maps.transpose(0, 1))):
        assert relative_error(together.detach(), one_by_one) < 1e-12


def derivatives_of_maps(layer, maps):
    leaf = maps.clone().requires_grad_()
    (first,) = torch.autograd.grad(layer(leaf).sin().sum(), leaf, create_graph=True)
    return torch.autograd.grad(first.cos().sum(), leaf)[0]


@every_layer
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch itself
def test_forward_mode_is_the_transpose_of_backward_mode(name):
    layer, _, channels = made(name, torch.float64)
    maps, towards = (noise(2, channels, 4, 4, dtype=torch.float64, name=name) for name in ("maps", "towards"))
    values, change = jvp(layer, (maps,), (towards,))
    (back,) = vjp(layer, maps)[1](values)
    torch.testing.assert_close((change * values).sum(), (back * towards).sum())


def test_pooling_by_hand():
    maps = torch.arange(15.0).view(1, 1, 3, 5).requires_grad_()
    pooled = AveragePooling()(maps)
    # (0 + 1 + 5 + 6) / 4 and (2 + 3 + 7 + 8) / 4; the last row and column are left out.
    assert pooled.tolist() == [[[[3, 5]]]]
    (gradient,) = torch.autograd.grad(pooled, maps, torch.tensor([[[[4.0, 8.0]]]]))
    assert gradient.tolist() == [[[[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0] * 5]]]


@every_layer
def test_other_layouts_and_half_precision_are_left_to_torch(name):
    layer, torch_class, channels = made(name)
    maps = noise(2, channels, 6, 6).requires_grad_()
    last = maps.detach().to(memory_format=torch.channels_last).requires_grad_()
    assert channels == 1 or torch.equal(layer(last), torch_class.forward(layer, last))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = layer(maps), torch_class.forward(layer, maps)
    assert (ours.dtype, torch.equal(ours, theirs)) == (theirs.dtype, True)
    assert type(ours.grad_fn) is type(theirs.grad_fn)


def test_names_of_parameters_are_those_of_published_checkpoints():
    network = get_network("ConvNet", channels=1, image_size=8, num_classes=3, depth=1, width=4)
    assert [name for name, _ in network.named_parameters()] == [
        "features.0.weight",
        "features.0.bias",
        "features.1.weight",
        "features.1.bias",
        "classifier.weight",
        "classifier.bias",
    ]


def test_gradient_of_gradients_through_a_network_equals_that_of_torchs_layers(relative_error):
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=8, num_classes=3, width=6).double()
    plain = nn.Sequential(*(torchs(layer) for layer in network.features), nn.Flatten(), network.classifier)
    images, labels = noise(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0])

    def outer(forward, parameters):
        leaf = images.clone().requires_grad_()
        loss = F.cross_entropy(forward(leaf), labels)
        inner = torch.autograd.grad(loss, parameters, create_graph=True)
        found = torch.autograd.grad(sum(g.square().sum() for g in inner), (leaf, *parameters))
        return found[0], torch.cat([gradient.flatten() for gradient in found[1:]])

    ours = outer(network, list(network.parameters()))
    theirs = outer(plain, list(plain.parameters()))
    # As one vector: the gradient of a bias before a norm is zero up to rounding.
    assert all(relative_error(one, other) < 1e-11 for one, other in zip(ours, theirs, strict=True))


def torchs(layer):
    """torch's own layer with the same parameters."""
    if isinstance(layer, Convolution):
        other = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding).double()
    elif isinstance(layer, InstanceNorm):
        other = nn.GroupNorm(layer.num_groups, layer.num_channels).double()
    else:
        return nn.AvgPool2d(2) if isinstance(layer, AveragePooling) else layer
    other.load_state_dict(layer.state_dict())
    return other

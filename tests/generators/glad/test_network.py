"""The synthesis network against a second form, its gradients, and the rules of its shape.

The published values are in `test_golden_networks.py`.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ld3m_plugin.generators.glad.pretrained import imagenet_shape
from ld3m_plugin.generators.glad.stylegan_layers import SynthesisLayer
from ld3m_plugin.generators.glad.stylegan_shape import make_shape


def modulated_per_image(layer, features, w):
    """The published form: a copy of the weights for each image, in a grouped convolution; then bias, activation and filters."""
    shape, style = layer.shape, layer.affine(w)
    n, weight = len(features), layer.weight
    weight = weight / weight.square().mean((1, 2, 3), keepdim=True).sqrt()
    style = style / style.square().mean().sqrt()  # over the batch, as published: demodulation cancels it
    per_image = weight * style[:, None, :, None, None]
    per_image = per_image / (per_image.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt() / layer.magnitude_ema.sqrt()
    grouped = features.reshape(1, -1, *features.shape[2:])
    convolved = F.conv2d(grouped, per_image.flatten(0, 1), padding=shape.kernel - 1, groups=n)
    return layer._activate(convolved.view(n, -1, *convolved.shape[2:]) + layer.bias[:, None, None])


@settings(max_examples=20)
@given(batch=st.integers(1, 4), which=st.integers(0, 3), seed=st.integers(0, 1000))
def test_modulating_activations_is_modulating_weights(batch, which, seed):
    torch_rng = torch.Generator().manual_seed(seed)
    shape = make_shape(
        resolutions=(16,), stem_layers=4, head_layers=0, classes=0, channel_base=64, channel_max=6, margin=2, w_dim=5
    ).layers[which]
    layer = SynthesisLayer(5, shape).double()
    for tensor in (layer.weight, layer.affine.weight, layer.bias):
        tensor.data = torch.randn(tensor.shape, dtype=torch.float64, generator=torch_rng)
    layer.magnitude_ema.fill_(2.5)
    layer.eval()
    features = torch.randn(
        batch, shape.in_channels, shape.in_size, shape.in_size, dtype=torch.float64, generator=torch_rng
    )
    w = torch.randn(batch, 5, dtype=torch.float64, generator=torch_rng)
    expected = modulated_per_image(layer, features, w)
    found = layer(features, w)
    assert found.shape == (batch, shape.out_channels, shape.out_size, shape.out_size)
    # By norm: the 1e-8 under the root weighs more where a style is small, in single pixels up to 2e-7 (measured 2e-9 by norm).
    assert (found - expected).norm() <= 1e-7 * expected.norm()
    before = layer.weight.detach().clone()
    layer.freeze()
    assert not torch.equal(layer.weight, before)
    assert (layer(features, w) - expected).norm() <= 1e-7 * expected.norm()


def test_gradients_of_the_whole_network_in_float64(network):
    small = network(classes=2, size=16, channel_max=2).double().freeze()
    ws = torch.randn(1, small.shape.num_ws, small.shape.w_dim, dtype=torch.float64, requires_grad=True)
    features = small.synthesis.features(ws.detach(), 3).clone().requires_grad_()
    pick = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    # Along random directions, which is seconds quicker than every element; the goldens in float64 hold the rest.
    assert torch.autograd.gradcheck(
        lambda w, f: (small.synthesis(w, f, 3) * pick).sum(), (ws, features), fast_mode=True
    )
    assert torch.autograd.gradcheck(lambda w: (small.synthesis(w) * pick).sum(), ws, fast_mode=True)


def test_rows_do_not_see_each_other(network):
    small = network().freeze()
    ws = torch.randn(3, small.shape.num_ws, small.shape.w_dim)
    together = small.synthesis(ws)
    louder = torch.cat([ws[:1], ws[1:] * 50])
    assert torch.allclose(small.synthesis(louder)[0], together[0], atol=1e-6)


def test_features_in_the_middle_give_the_same_images(network):
    small = network().freeze()
    ws = torch.randn(2, small.shape.num_ws, small.shape.w_dim)
    images = small.synthesis(ws)
    for layer in range(len(small.shape.layers)):
        assert torch.equal(small.synthesis(ws, small.synthesis.features(ws, layer), layer), images)


def test_a_style_that_moves_the_input_moves_the_image(network):
    """Translation equivariance, the purpose of the filters: Fourier features shifted by whole pixels shift the image."""
    moved = network(size=32, margin=10, stem_layers=5, channel_max=8, channel_base=256).eval()
    ws = torch.randn(1, moved.shape.num_ws, moved.shape.w_dim)
    plain = moved.synthesis(ws)
    moved.synthesis.input.transform[0, 2] = 2 / 32
    shifted = moved.synthesis(ws)
    error = (shifted[..., 4:-4, 4:-4] - plain.roll(-2, 3)[..., 4:-4, 4:-4]).norm()
    other = (shifted[..., 4:-4, 4:-4] - plain.roll(2, 3)[..., 4:-4, 4:-4]).norm()
    assert min(error, other) < 0.1 * plain[..., 4:-4, 4:-4].norm()
    assert max(error, other) > 3 * min(error, other)


def test_the_magnitude_is_followed_in_training_alone(network):
    small = network()
    ws = torch.randn(2, small.shape.num_ws, small.shape.w_dim)
    layer = small.synthesis.get_submodule(small.shape.layers[1].name)
    small.eval().synthesis(ws)
    assert float(layer.magnitude_ema) == 1
    small.train().synthesis(ws)
    small.eval()
    power = float(small.synthesis.features(ws, 1).detach().square().mean())
    # Layer 0's gain changed by a thousandth between the two.
    assert float(layer.magnitude_ema) == pytest.approx(1 + 0.001 * (power - 1), rel=1e-3)


def test_truncation_goes_from_the_style_to_the_mean_of_the_class(network):
    mapping = network().mapping
    z, classes = torch.randn(3, 5), torch.tensor([0, 2, 2])
    full = mapping(z, classes)
    assert torch.allclose(mapping(z, classes, 0.0), mapping.w_avg[classes])
    assert torch.allclose(mapping(z, classes, 0.25), mapping.w_avg[classes] * 0.75 + full * 0.25, atol=1e-6)
    assert not torch.allclose(full[1], mapping(z[1:2], torch.tensor([0]))[0])
    # z counts by its direction alone.
    assert torch.allclose(mapping(z * 3, classes), full, atol=1e-5)


def test_official_sizes():
    for size, layers in ((128, 26), (256, 31)):
        shape = imagenet_shape(size)
        assert len(shape.layers) == layers
        assert (shape.image_size, shape.num_ws, shape.layers[0].name) == (size, layers + 1, "L0_36_1024")
        assert shape.layers[-1].to_rgb
        assert [layer.critical for layer in shape.layers[-3:]] == [True, True, True]
        assert sum(layer.critical for layer in shape.layers) == 3
        assert shape.layers[-2].out_channels == 65536 // size


@pytest.mark.parametrize("resolutions", [(16,), (32,), (16, 32), (16, 32, 64, 128)])
def test_cutoffs_grow_and_stay_below_the_limit(resolutions):
    layers = make_shape(resolutions=resolutions, stem_layers=7, head_layers=5, classes=0).layers
    for layer in layers:
        assert layer.in_cutoff <= layer.out_cutoff <= layer.out_rate / 2
        assert layer.out_cutoff + layer.out_half_width >= layer.out_rate / 2
        assert math.log2(layer.out_rate).is_integer()
    assert layers[-1].out_cutoff == resolutions[-1] / 2


def test_gradients_under_autocast(network):
    """The forward pass runs under autocast and the backward pass outside of it, as the host does."""
    small = network(size=32, margin=4, channel_max=16, channel_base=256).freeze()
    ws = torch.randn(2, small.shape.num_ws, small.shape.w_dim, requires_grad=True)
    pick = torch.randn(2, 1, 32, 32)
    (expected,) = torch.autograd.grad(small.synthesis(ws), ws, pick)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = small.synthesis(ws)
    (found,) = torch.autograd.grad(images, ws, pick.to(images.dtype))
    # bf16 has eight bits, and there are five layers one way and five the other.
    assert float((found - expected).norm() / expected.norm()) < 0.1

"""Shapes, settings and properties of the networks, beyond the published sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.networks.alexnet import AlexNet
from ld3m_plugin.networks.convnet import ConvNet, default_depth
from ld3m_plugin.networks.resnet import ResNet18
from ld3m_plugin.networks.vgg import VGG11
from ld3m_plugin.networks.vit import ViT

ALL = [ConvNet, AlexNet, VGG11, ResNet18, ViT]
NORMS = ["batchnorm", "layernorm", "instancenorm", "groupnorm", "none"]


def images_for(image_size, channels, count=2, seed=0):
    return torch.randn(count, channels, image_size, image_size, generator=torch.Generator().manual_seed(seed))


def last_linear(network):
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.slow
@pytest.mark.parametrize("network", ALL)
@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (28, 3), (32, 1), (32, 3), (64, 3), (128, 1)])
@torch.no_grad()
def test_logits_are_finite_and_come_from_the_embedding(network, image_size, channels):
    model = network(channels=channels, image_size=image_size, num_classes=7).eval()
    images = images_for(image_size, channels)
    logits, features = model(images), model.embed(images)
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert features.ndim == 2
    torch.testing.assert_close(last_linear(model)(features), logits, rtol=0, atol=0)


@pytest.mark.parametrize("network", ALL)
def test_a_loss_reaches_every_parameter_and_the_images(network):
    model = network(channels=3, image_size=32, num_classes=4)
    images = images_for(32, 3).requires_grad_()
    nn.functional.cross_entropy(model(images), torch.tensor([0, 3])).backward()
    for name, tensor in [("images", images), *model.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
    assert images.grad.any()


@pytest.mark.parametrize("network", ALL)
def test_gradients_can_be_differentiated_again(network):
    """Gradient matching needs d/dimages of dloss/dparameters."""
    model = network(channels=1, image_size=32, num_classes=3).eval()
    images = images_for(32, 1).requires_grad_()
    loss = nn.functional.cross_entropy(model(images), torch.tensor([0, 1]))
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), images)
    assert second.isfinite().all()
    assert second.any()


@pytest.mark.slow
@pytest.mark.parametrize("network", [ConvNet, VGG11, ResNet18])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("image_size", [28, 32])
@torch.no_grad()
def test_every_norm_works(network, norm, image_size):
    model = network(channels=3, image_size=image_size, num_classes=3, norm=norm).eval()
    assert model(images_for(image_size, 3)).isfinite().all()


@pytest.mark.parametrize(
    ("network", "image_size", "features"),
    [
        (ConvNet, 64, 128 * 4 * 4),
        (ConvNet, 96, 128 * 3 * 3),
        (AlexNet, 28, 192 * 4 * 4),
        (AlexNet, 64, 192 * 8 * 8),
        (VGG11, 64, 512 * 7 * 7),
        (ResNet18, 64, 512),
        (ViT, 64, 512),
    ],
)
@torch.no_grad()
def test_feature_counts(network, image_size, features):
    model = network(channels=3, image_size=image_size, num_classes=2).eval()
    assert model.embed(images_for(image_size, 3)).shape == (2, features)


@torch.no_grad()
def test_vgg_spreads_its_last_features_by_maxima():
    model = VGG11(channels=3, image_size=64, num_classes=2).eval()
    grid = model.embed(images_for(64, 3)).reshape(2, 512, 7, 7)
    corners = grid[:, :, ::6, ::6]
    assert torch.equal(grid[:, :, 3, 3], corners.amax((2, 3)))
    assert not torch.equal(corners.amin((2, 3)), corners.amax((2, 3)))


@torch.no_grad()
def test_layer_norm_follows_sizes_that_strides_round():
    model = ResNet18(channels=1, image_size=37, num_classes=3, norm="layernorm").eval()
    assert model(images_for(37, 1)).shape == (2, 3)


@pytest.mark.parametrize("act", ["relu", "leakyrelu", "sigmoid", "swish"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
@torch.no_grad()
def test_convnet_activations_and_poolings(act, pooling):
    model = ConvNet(channels=1, image_size=16, num_classes=3, depth=2, width=8, act=act, pooling=pooling)
    assert model.embed(images_for(16, 1)).shape == (2, 8 * (256 if pooling == "none" else 16))
    assert model(images_for(16, 1)).shape == (2, 3)


@torch.no_grad()
def test_leaky_relu_and_relu_differ():
    results = []
    for act in ("relu", "leakyrelu"):
        torch.manual_seed(0)
        results.append(ConvNet(channels=1, image_size=16, num_classes=3, width=8, act=act)(images_for(16, 1)))
    assert not torch.equal(*results)


@pytest.mark.parametrize(
    ("image_size", "depth"), [(4, 1), (8, 1), (28, 3), (32, 3), (64, 4), (96, 5), (128, 5), (256, 6)]
)
def test_default_depth(image_size, depth):
    assert default_depth(image_size) == depth
    model = ConvNet(channels=1, image_size=image_size, num_classes=2, width=4)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.features) == depth


def test_norms_start_as_the_identity_scale():
    norms = [
        layer for layer in ConvNet(channels=1, image_size=28, num_classes=2).features if hasattr(layer, "num_groups")
    ]
    assert [layer.num_groups for layer in norms] == [128, 128, 128]
    assert all((layer.weight == 1).all() and (layer.bias == 0).all() for layer in norms)


@given(
    depth=st.integers(1, 4),
    width=st.integers(1, 9),
    norm=st.sampled_from(["batchnorm", "layernorm", "instancenorm", "none"]),
    pooling=st.sampled_from(["avg", "max"]),
    image_size=st.integers(16, 40),
    row=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30)
@torch.no_grad()
def test_a_row_of_logits_depends_on_its_image_alone(depth, width, norm, pooling, image_size, row, seed):
    shape = {"channels": 1, "image_size": image_size, "num_classes": 3}
    model = ConvNet(**shape, depth=depth, width=width, norm=norm, pooling=pooling).eval()
    images = images_for(image_size, 1, count=3, seed=seed)
    others = images_for(image_size, 1, count=3, seed=seed + 1)
    others[row] = images[row]
    torch.testing.assert_close(model(images)[row], model(others)[row], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_vit_cuts_patches_row_by_row_with_colour_innermost():
    model = ViT(channels=2, image_size=4, num_classes=2, patch_size=2, dim=8, depth=1, heads=1)
    images = torch.arange(32.0).reshape(1, 2, 4, 4)
    cut = model.to_patch_embedding[0](images)
    assert cut.shape == (1, 4, 8)
    # Second patch: rows 0-1, columns 2-3; the second colour is 16 more than the first.
    assert cut[0, 1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]


@torch.no_grad()
def test_vit_pads_images_that_patches_do_not_tile():
    model = ViT(channels=1, image_size=28, num_classes=3, depth=1).eval()
    wider = ViT(channels=1, image_size=32, num_classes=3, depth=1).eval()
    wider.load_state_dict(model.state_dict())
    images = images_for(28, 1)
    torch.testing.assert_close(model(images), wider(nn.functional.pad(images, (2, 2, 2, 2))), rtol=0, atol=0)


@torch.no_grad()
def test_vit_drops_features_in_training_alone():
    model = ViT(channels=1, image_size=32, num_classes=3, depth=1, dropout=0.5)
    images = images_for(32, 1)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


SHAPE = {"channels": 3, "image_size": 32, "num_classes": 10}


@pytest.mark.parametrize(
    ("network", "wrong", "words"),
    [
        (ConvNet, {"norm": "bathnorm"}, ["norm = 'bathnorm'", "batchnorm", "layernorm", "instancenorm"]),
        (VGG11, {"norm": "batch"}, ["norm = 'batch'", "batchnorm"]),
        (ResNet18, {"norm": None}, ["norm = None", "batchnorm"]),
        (ConvNet, {"act": "gelu"}, ["act = 'gelu'", "relu", "leakyrelu", "sigmoid", "swish"]),
        (ConvNet, {"pooling": "mean"}, ["pooling = 'mean'", "avg", "max", "none"]),
        (ConvNet, {"depth": 6}, ["depth = 6", "image_size 32", "5"]),
        (ConvNet, {"depth": 0}, ["depth = 0"]),
        (ConvNet, {"image_size": 1}, ["depth = 1", "image_size 1", "0"]),
        (ConvNet, {"width": 2.5}, ["width = 2.5"]),
        (ConvNet, {"width": "64"}, ["width = '64'"]),
        (ConvNet, {"width": True}, ["width = True"]),
        (ConvNet, {"width": 30, "norm": "groupnorm"}, ["width = 30", "multiple of 4", "'groupnorm'"]),
        (AlexNet, {"image_size": 7}, ["image_size = 7", "8"]),
        (AlexNet, {"channels": 0}, ["channels = 0"]),
        (VGG11, {"image_size": 16}, ["image_size = 16", "32"]),
        (ResNet18, {"image_size": 8}, ["image_size = 8", "9"]),
        (ViT, {"num_classes": 0}, ["num_classes = 0"]),
        (ViT, {"dim": 100}, ["dim = 100", "heads = 8"]),
        (ViT, {"dropout": 1.0}, ["dropout = 1.0"]),
        (ViT, {"dropout": "a lot"}, ["dropout = 'a lot'"]),
    ],
)
def test_wrong_settings_are_one_line(network, wrong, words):
    with pytest.raises(InvalidOptionError) as caught:
        network(**{**SHAPE, **wrong})
    for word in (network.__name__, *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_a_convnet_without_pooling_may_be_deep():
    model = ConvNet(channels=1, image_size=4, num_classes=2, depth=5, width=4, pooling="none")
    assert model(images_for(4, 1)).shape == (2, 2)

"""Mapping, synthesis and their gradients against the published implementation, from every recorded layer.

The goldens are in `tests/data`: `stylegan_xl_*.safetensors` has the inputs, and the outputs of the published code in float32;
`stylegan_xl_*_float64.safetensors` has the outputs of the same code in float64 (of large tensors, every 97th number). Tests of
the network files themselves are in `pickles/test_network_goldens.py`.
"""

import pytest
import torch

from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork

# Styles are normalised per image here and over the batch in the published code: 1e-8 in the demodulation sees that, 1e-10 in all.
DOUBLE = 1e-9
# In float32, images alone. In each render, 2 to 25 inputs of leaky ReLUs are nearer to zero than 1e-6 of their root mean square.
# Rounding, which differs with the machine, decides their sign and with it their slope: one such input changes the whole gradient
# of the 64-pixel network by 3e-4. An image changes by no more than the rounding.
SINGLE = 1e-5


def render(network, ws, grad, features=None, layer=0):
    """Images, and the gradients of styles and features."""
    leaves = [tensor.detach().requires_grad_() for tensor in (ws, features) if tensor is not None]
    images = network.synthesis(leaves[0], *leaves[1:], layer=layer)
    return images.detach(), *torch.autograd.grad(images, leaves, grad)


def test_the_shape_is_that_of_the_published_rules(golden):
    assert golden.shape_by_rules == golden.shape
    assert [layer.name for layer in golden.shape.layers] == golden.description["layer_names"]
    assert golden.shape.num_ws == golden.description["num_ws"]
    names = {name: tuple(tensor.shape) for name, tensor in GeneratorNetwork(golden.shape).state_dict().items()}
    expected = {**golden.description["parameters"], **golden.description["buffers"]}
    # The file with stages alone lists the mapping too.
    assert {name: names[name] for name in expected} == {name: tuple(shape) for name, shape in expected.items()}


def test_filters_are_those_in_the_file(golden, relative_error):
    designed = GeneratorNetwork(golden.shape).state_dict()
    names = [name for name in golden.state if name.endswith("_filter")]
    assert len(names) > 10
    for name in names:
        assert relative_error(designed[name], golden.state[name]) < 1e-6, name


@pytest.mark.parametrize(("psi", "name"), [(1.0, "mapping.ws"), (0.7, "mapping.ws_truncated")])
def test_mapping(golden, psi, name):
    z, labels = golden.tensors["mapping.z"], golden.tensors["mapping.labels"]
    for network, bound in ((golden.double(), 1e-14), (golden.network, 1e-6)):
        styles = network.mapping(z.to(network.mapping.w_avg), labels, psi)
        assert golden.error(name, network.broadcast(styles)) < bound


@pytest.mark.slow
def test_images_and_gradient_from_styles(golden):
    tensors = golden.double_tensors()
    images, ws_grad = render(golden.double(), tensors["ws"], tensors["image_grad"])
    assert golden.error("full.images", images) < DOUBLE
    assert golden.error("full.ws_grad", ws_grad) < DOUBLE


@pytest.mark.slow
def test_images_and_gradients_from_every_recorded_layer(golden):
    network, tensors = golden.double(), golden.double_tensors()
    recorded = golden.description["layers"]
    assert len(recorded) == 2
    for layer in recorded:
        name = f"layer{layer}"
        assert golden.error(f"{name}.f_latents", network.synthesis.features(tensors["ws"], layer)) < DOUBLE
        features = tensors[f"{name}.f_latents"]
        images, ws_grad, f_grad = render(network, tensors["ws"], tensors["image_grad"], features, layer)
        assert golden.error(f"{name}.images", images) < DOUBLE
        assert golden.error(f"{name}.ws_grad", ws_grad) < DOUBLE
        assert golden.error(f"{name}.f_grad", f_grad) < DOUBLE


def test_images_in_single_precision(golden):
    network, tensors = golden.network, golden.tensors
    assert golden.error("full.images", network.synthesis(tensors["ws"])) < SINGLE
    for layer in golden.description["layers"]:
        name = f"layer{layer}"
        assert golden.error(f"{name}.f_latents", network.synthesis.features(tensors["ws"], layer)) < SINGLE
        images = network.synthesis(tensors["ws"], tensors[f"{name}.f_latents"], layer)
        assert golden.error(f"{name}.images", images) < SINGLE

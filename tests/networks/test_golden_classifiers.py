"""The networks compute what the field's published code computes.

The golden files hold images, logits and embeddings in eval mode, in float32 and in float64, and parameter names in the order
in which expert trajectories store them. `set_golden_weights` defines the weights by their names.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.networks.alexnet import AlexNet
from ld3m_plugin.networks.convnet import ConvNet
from ld3m_plugin.networks.resnet import ResNet18
from ld3m_plugin.networks.vgg import VGG11
from ld3m_plugin.networks.vit import ViT

DATA = Path(__file__).parents[1] / "data"
LAYOUTS = json.loads((DATA / "core_classifiers.json").read_text(encoding="utf-8"))
FLOAT32 = load_file(DATA / "core_classifiers.safetensors")
FLOAT64 = load_file(DATA / "core_classifiers_float64.safetensors")

NETWORKS = {
    "ConvNet-D3-instancenorm-32": (ConvNet, {"width": 32, "norm": "instancenorm"}),
    "ConvNet-D3-instancenorm-28-gray": (ConvNet, {"width": 32, "norm": "instancenorm"}),
    "ConvNet-D5-instancenorm-128": (ConvNet, {"width": 32, "norm": "instancenorm"}),
    "ConvNet-D3-batchnorm-32": (ConvNet, {"width": 32, "norm": "batchnorm"}),
    "ConvNet-D3-groupnorm-32": (ConvNet, {"width": 32, "norm": "groupnorm"}),
    "ConvNet-D3-none-32": (ConvNet, {"width": 32, "norm": "none"}),
    "ConvNet-D3-layernorm-32": (ConvNet, {"width": 32, "norm": "layernorm"}),
    "AlexNet-32": (AlexNet, {}),
    "VGG11-32": (VGG11, {}),
    "ResNet18-32": (ResNet18, {}),
    "ViT-64": (ViT, {}),
}


def build(entry):
    network, settings = NETWORKS[entry]
    sizes = {key: LAYOUTS[entry][key] for key in ("channels", "image_size", "num_classes")}
    return network(**sizes, **settings).eval()


def test_every_golden_entry_is_tested():
    assert set(NETWORKS) == set(LAYOUTS)


@pytest.mark.parametrize("entry", NETWORKS)
def test_parameters_have_the_published_names_shapes_and_order(entry):
    ours = [[name, list(parameter.shape)] for name, parameter in build(entry).named_parameters()]
    assert ours == LAYOUTS[entry]["parameters"]


def outputs(network, entry, images):
    """Logits, and the embedding if the golden file has it, by its names."""
    found = {f"{entry}.logits": network(images)}
    if f"{entry}.embedding" in FLOAT64:
        found[f"{entry}.embedding"] = network.embed(images)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("entry", NETWORKS)
@torch.no_grad()
def test_outputs_in_float64_equal_the_published_code(entry, set_golden_weights, relative_error):
    network = set_golden_weights(build(entry)).double()
    # Without layer norm, the ten layers of the ViT amplify rounding by 5e5.
    tolerance = 1e-9 if entry.startswith("ViT") else 1e-13
    for name, value in outputs(network, entry, FLOAT32[f"{entry}.images"].double()).items():
        assert relative_error(value, FLOAT64[name]) < tolerance


# Not the ViT, which is 3e-2 from the float64 values in float32.
@pytest.mark.parametrize("entry", [entry for entry in NETWORKS if not entry.startswith("ViT")])
@torch.no_grad()
def test_outputs_in_float32_equal_the_published_code(entry, set_golden_weights, relative_error):
    network = set_golden_weights(build(entry))
    for name, value in outputs(network, entry, FLOAT32[f"{entry}.images"]).items():
        assert relative_error(value, FLOAT32[name]) < 1e-5

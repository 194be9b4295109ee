"""From an official network file to the shape and the tensors of its generator.

Source: Sauer, Schwarz and Geiger, "StyleGAN-XL", SIGGRAPH 2022; Karras et al., StyleGAN3, NeurIPS 2021. A file's own numbers
override the rules they came from. Those that the layers here derive from the others must be the ones that the file has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.limits import one_line
from ld3m_plugin.generators.glad.pickles.modules import NetworkModules, read_tensors
from ld3m_plugin.generators.glad.pickles.stand_ins import read_network_pickle
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.stylegan_shape import LayerShape, NetworkShape

__all__ = ["expected_tensors", "network_of", "read_network"]

_CLASSES = ("Generator", "SuperresGenerator")
_EMBEDDING = "torch.nn.modules.sparse.Embedding"
_MOST_LAYERS = 200
_LAYER_NAME = re.compile(r"L\d{1,3}_\d{1,7}_\d{1,7}")
_NETWORK, _LAYER = TypeAdapter(NetworkShape), TypeAdapter(LayerShape)
#: Field of `NetworkShape` or `LayerShape` -> path of the official attribute.
_NETWORK_PATHS = {
    "z_dim": "z_dim",
    "w_dim": "w_dim",
    "classes": "c_dim",
    "mapping_layers": "mapping.num_layers",
    "mapping_rate": "mapping.fc0.bias_gain",
    "image_size": "img_resolution",
    "image_channels": "img_channels",
    "input_channels": "synthesis.input.channels",
    "input_size": "synthesis.input.size",
    "input_rate": "synthesis.input.sampling_rate",
    "bandwidth": "synthesis.input.bandwidth",
    "output_scale": "synthesis.output_scale",
}
_LAYER_PATHS = {field.name: field.name for field in fields(LayerShape) if field.name != "name"} | {
    "in_rate": "in_sampling_rate",
    "out_rate": "out_sampling_rate",
    "to_rgb": "is_torgb",
    "critical": "is_critically_sampled",
    "kernel": "conv_kernel",
    "radial": "use_radial_filters",
    "clamp": "conv_clamp",
}


def read_network(path: Path) -> tuple[NetworkShape, dict[str, Tensor]]:
    """Read the generator of an official .pkl, of which nothing is run.

    Returns:
        Its shape, and every parameter and buffer in float32 by its official name.

    Raises:
        PriorError: the file is damaged, asks for code, or holds another kind of network.
    """
    return network_of(read_network_pickle(path), str(path))


def network_of(entries: Mapping[str, Any], file: str) -> tuple[NetworkShape, dict[str, Tensor]]:
    """Take what `read_network` returns from a file's entries: the averaged generator (`G_ema`), or `G` where there is none.

    Raises:
        PriorError: there is none, or it is of another kind.
    """
    found = next((entries[name] for name in ("G_ema", "G") if entries.get(name) is not None), None)
    if found is None:
        raise PriorError(f"{file} has neither G_ema nor G: give an official file of a whole network")
    network = NetworkModules(file, found)
    _check_family(network)
    shape = _shape(network)
    for path, value in _derived(shape).items():
        network.same(path, value)
    try:
        expected = expected_tensors(shape)
    except (ValueError, ArithmeticError, RuntimeError) as error:  # torch refuses what no memory can hold
        raise network.error(f"the numbers of the network do not fit each other ({one_line(error)})") from error
    return shape, read_tensors(network, expected)


def expected_tensors(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every parameter and buffer of a network, as the official code names them."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in GeneratorNetwork(shape).state_dict().items()}


def _check_family(network: NetworkModules) -> None:
    """Refuse networks with the same class names and other mathematics."""
    kind = network.get("class")
    if kind not in _CLASSES:
        raise network.error(f"a network of class {one_line(kind)} is none of {', '.join(_CLASSES)}")
    if any(isinstance(name, str) and re.fullmatch(r"b\d+", name) for name in network.get("synthesis._modules")):
        raise network.error("this is a StyleGAN2")
    if network.get("c_dim") and network.get("mapping.embed.class") == "FullyConnectedLayer":
        raise network.error("this is a class-conditional StyleGAN3, which maps classes in another way")


def _shape(network: NetworkModules) -> NetworkShape:
    names = network.get("synthesis.layer_names")
    if not isinstance(names, list) or len(names) > _MOST_LAYERS:
        raise network.error(f"synthesis.layer_names is no list of at most {_MOST_LAYERS}")
    for name in names:
        if not isinstance(name, str) or not _LAYER_NAME.fullmatch(name):
            raise network.error(f"synthesis.layer_names has {one_line(name)}, not the name of a layer")
    layers = tuple(
        network.checked(_LAYER, {f: f"synthesis.{name}.{path}" for f, path in _LAYER_PATHS.items()}, name=name)
        for name in names
    )
    embedded = {"embed_dim": "mapping.embed.embedding_dim"} if network.get("c_dim") else {}
    rest = {"layers": [asdict(layer) for layer in layers]} | ({} if embedded else {"embed_dim": 0})
    shape = network.checked(_NETWORK, _NETWORK_PATHS | embedded, **rest)
    if shape.mapping_layers > _MOST_LAYERS:
        raise network.error(f"mapping.num_layers is {shape.mapping_layers}, not at most {_MOST_LAYERS}")
    return shape


def _derived(shape: NetworkShape) -> dict[str, Any]:
    """Value by path of what follows from a shape, and layers here would not read from a file."""
    values = {
        "num_ws": shape.num_ws,
        "mapping.class": "MappingNetwork",
        "mapping.num_ws": shape.num_ws,
        "mapping.z_dim": shape.z_dim,
        "mapping.c_dim": shape.classes,
        "mapping.w_dim": shape.w_dim,
        "synthesis.class": "SynthesisNetwork",
        "synthesis.img_resolution": shape.image_size,
        "synthesis.input.class": "SynthesisInput",
        **_linear("synthesis.input.affine", shape.w_dim, 1.0, "linear"),
    }
    inputs = shape.z_dim
    if shape.classes:
        inputs += shape.z_dim
        values |= {"mapping.embed.class": _EMBEDDING, "mapping.embed.max_norm": None}
        values |= _linear("mapping.embed_proj", shape.embed_dim, 1.0, "lrelu")
    for index in range(shape.mapping_layers):
        values |= _linear(f"mapping.fc{index}", inputs, shape.mapping_rate, "lrelu")
        inputs = shape.w_dim
    for layer in shape.layers:
        place = f"synthesis.{layer.name}"
        values |= {
            f"{place}.class": "SynthesisLayer",
            f"{place}.w_dim": shape.w_dim,
            f"{place}.tmp_sampling_rate": layer.inner_rate,
            f"{place}.up_factor": layer.up,
            f"{place}.down_factor": layer.down,
            f"{place}.up_taps": layer.up_taps,
            f"{place}.down_taps": layer.down_taps,
            f"{place}.down_radial": layer.radial and not layer.critical,
            f"{place}.padding": [*layer.padding, *layer.padding],
            **_linear(f"{place}.affine", shape.w_dim, 1.0, "linear"),
        }
    return values


def _linear(place: str, inputs: int, rate: float, activation: str) -> dict[str, Any]:
    """Factors of a fully connected layer, which a prior does not keep."""
    return {
        f"{place}.class": "FullyConnectedLayer",
        f"{place}.in_features": inputs,
        f"{place}.activation": activation,
        f"{place}.weight_gain": rate / math.sqrt(max(1, inputs)),
        f"{place}.bias_gain": rate,
    }

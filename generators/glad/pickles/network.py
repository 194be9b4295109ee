"""From the entries of an official network file to the shape and the tensors of its generator.

Source: Sauer, Schwarz and Geiger, "StyleGAN-XL", SIGGRAPH 2022; Karras et al., StyleGAN3, NeurIPS 2021. A file's own numbers win
over the rules they came from; those that follow from others are compared, since layers here derive them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.attributes import Module, as_module
from ld3m_plugin.generators.glad.pickles.records import short
from ld3m_plugin.generators.glad.pickles.tensors import expected_tensors, read_tensors
from ld3m_plugin.generators.glad.pickles.unpickler import read_network_pickle
from ld3m_plugin.generators.glad.stylegan_shape import LayerShape, NetworkShape

__all__ = ["expected_tensors", "network_of", "read_network"]

_CLASSES = ("Generator", "SuperresGenerator")
_EMBEDDING = "torch.nn.modules.sparse.Embedding"
_MOST_LAYERS = 200
_LAYER_NAME = re.compile(r"L\d{1,3}_\d{1,7}_\d{1,7}")


def read_network(path: Path) -> tuple[NetworkShape, dict[str, Tensor]]:
    """Shape and tensors of the generator in an official .pkl, of which nothing is run.

    Returns:
        Its shape, and every parameter and buffer in float32 by its official name.

    Raises:
        PriorError: the file is damaged, asks for code, or holds another kind of network.
    """
    return network_of(read_network_pickle(path), str(path))


def network_of(entries: Mapping[str, Any], file: str) -> tuple[NetworkShape, dict[str, Tensor]]:
    """Shape and tensors of the generator among the entries: the averaged one (`G_ema`), or `G` where there is none.

    Raises:
        PriorError: there is none, or it is of another kind.
    """
    found = next((entries[name] for name in ("G_ema", "G") if entries.get(name) is not None), None)
    if found is None:
        raise PriorError(
            f"{file} has neither G_ema nor G: it is not an official network file, or one of its discriminator"
        )
    network = as_module(found, file, "")
    if network.kind not in _CLASSES:
        raise network.error(f"is a {short(network.kind)}: this version reads {' and '.join(_CLASSES)} of StyleGAN-XL")
    _check_family(network)
    shape = _network_shape(network)
    return shape, read_tensors(network, shape)


def _check_family(network: Module) -> None:
    """Networks with the same class names and other mathematics."""
    below = network.module("synthesis").parts("_modules")
    if any(re.fullmatch(r"b\d+", name) for name in below):
        raise network.error(f"is of StyleGAN2 (synthesis.{short(min(below))}): this version reads StyleGAN-XL")
    mapping = network.module("mapping", "MappingNetwork")
    embedding = mapping.parts("_modules").get("embed")
    if network.whole("c_dim", 0) and as_module(embedding, network.file, "mapping.embed").kind == "FullyConnectedLayer":
        raise network.error(
            "is a class-conditional StyleGAN3, which maps classes in another way: convert one of StyleGAN-XL"
        )


def _network_shape(network: Module) -> NetworkShape:
    synthesis, mapping = network.module("synthesis", "SynthesisNetwork"), network.module("mapping", "MappingNetwork")
    start = synthesis.module("input", "SynthesisInput")
    classes, layers = network.whole("c_dim", 0), _layers(synthesis)
    shape = NetworkShape(
        z_dim=network.whole("z_dim"),
        w_dim=network.whole("w_dim"),
        classes=classes,
        embed_dim=mapping.module("embed", _EMBEDDING).whole("embedding_dim") if classes else 0,
        mapping_layers=mapping.whole("num_layers"),
        mapping_rate=_mapping_rate(mapping),
        image_size=network.whole("img_resolution"),
        image_channels=network.whole("img_channels"),
        input_channels=start.whole("channels"),
        input_size=start.square("size"),
        input_rate=start.number("sampling_rate"),
        bandwidth=start.number("bandwidth"),
        output_scale=synthesis.number("output_scale"),
        layers=layers,
    )
    _check_mapping(network, mapping, shape)
    _check_chain(network, synthesis, shape)
    _check_fully_connected(start.module("affine", "FullyConnectedLayer"), shape.w_dim, 1.0, "linear")
    if not 0 <= shape.bandwidth < shape.input_rate / 2:
        raise start.error(f"has bandwidth {shape.bandwidth:g} at the rate {shape.input_rate:g}: get the file again")
    return shape


def _layers(synthesis: Module) -> tuple[LayerShape, ...]:
    names = synthesis.values.get("layer_names")
    if not isinstance(names, list) or not 1 <= len(names) <= _MOST_LAYERS:
        raise synthesis.error("has no layer_names: it is not a network of StyleGAN-XL or StyleGAN3")
    for name in names:
        if not isinstance(name, str) or not _LAYER_NAME.fullmatch(name):
            raise synthesis.error(f"has a layer named {short(name)}: it is not a network of StyleGAN-XL or StyleGAN3")
    if len(set(names)) != len(names):
        raise synthesis.error("has the same layer twice: the file is damaged, get it again")
    return tuple(_layer(synthesis.module(name, "SynthesisLayer"), name) for name in names)


def _layer(layer: Module, name: str) -> LayerShape:
    clamp = None if layer.values.get("conv_clamp", 0) is None else layer.number("conv_clamp")
    shape = LayerShape(
        name=name,
        in_channels=layer.whole("in_channels"),
        out_channels=layer.whole("out_channels"),
        in_size=layer.square("in_size"),
        out_size=layer.square("out_size"),
        in_rate=layer.whole("in_sampling_rate"),
        out_rate=layer.whole("out_sampling_rate"),
        in_cutoff=layer.number("in_cutoff"),
        out_cutoff=layer.number("out_cutoff"),
        in_half_width=layer.number("in_half_width"),
        out_half_width=layer.number("out_half_width"),
        to_rgb=layer.flag("is_torgb"),
        critical=layer.flag("is_critically_sampled"),
        kernel=layer.whole("conv_kernel"),
        filter_size=layer.whole("filter_size"),
        lrelu_upsampling=layer.whole("lrelu_upsampling"),
        radial=layer.flag("use_radial_filters"),
        clamp=clamp,
    )
    _check_layer(layer, shape)
    return shape


def _check_layer(layer: Module, shape: LayerShape) -> None:
    """What a layer here derives must be what the file says, and its bands must be ones that filters can be made for."""
    layer.same("tmp_sampling_rate", shape.inner_rate, layer.whole("tmp_sampling_rate"))
    layer.same("up_factor x in_sampling_rate", shape.inner_rate, layer.whole("up_factor") * shape.in_rate)
    layer.same("down_factor x out_sampling_rate", shape.inner_rate, layer.whole("down_factor") * shape.out_rate)
    layer.same("up_taps", shape.up_taps, layer.whole("up_taps"))
    layer.same("down_taps", shape.down_taps, layer.whole("down_taps"))
    layer.same("down_radial", shape.radial and not shape.critical, layer.flag("down_radial"))
    padding = layer.values.get("padding")
    if not isinstance(padding, list) or len(padding) != 4 or not all(type(side) is int for side in padding):
        raise layer.error("has no padding of four sides: it is not a network of StyleGAN-XL, or the file is damaged")
    layer.same("padding", [*shape.padding, *shape.padding], padding)
    widths = (shape.in_cutoff, shape.out_cutoff, shape.in_half_width, shape.out_half_width)
    if not all(0 < width <= shape.inner_rate for width in widths) or (shape.clamp is not None and shape.clamp <= 0):
        raise layer.error("has a cutoff, width or clamp that no filter can have: the file is damaged, get it again")


def _mapping_rate(mapping: Module) -> float:
    rate = mapping.module("fc0", "FullyConnectedLayer").number("bias_gain")
    if not rate > 0:
        raise mapping.error(f"has the learning rate multiplier {rate:g}: the file is damaged, get it again")
    return rate


def _check_mapping(network: Module, mapping: Module, shape: NetworkShape) -> None:
    for name, expected in (("z_dim", shape.z_dim), ("w_dim", shape.w_dim), ("num_ws", shape.num_ws)):
        mapping.same(name, expected, mapping.whole(name))
    mapping.same("c_dim", shape.classes, mapping.whole("c_dim", 0))
    network.same("num_ws", shape.num_ws, network.whole("num_ws"))
    if shape.mapping_layers > _MOST_LAYERS:
        raise mapping.error(f"has {shape.mapping_layers} layers: the file is damaged, get it again")
    if shape.classes:
        projection = mapping.module("embed_proj", "FullyConnectedLayer")
        _check_fully_connected(projection, shape.embed_dim, 1.0, "lrelu")
        if mapping.module("embed").values.get("max_norm") is not None:
            raise mapping.error("has an embedding with max_norm: this version does not read such networks")
    inputs = shape.z_dim * (2 if shape.classes else 1)
    for index in range(shape.mapping_layers):
        layer = mapping.module(f"fc{index}", "FullyConnectedLayer")
        _check_fully_connected(layer, shape.w_dim if index else inputs, shape.mapping_rate, "lrelu")


def _check_fully_connected(layer: Module, inputs: int, rate: float, activation: str) -> None:
    """Its factors are not written to a prior, so they must be the ones that follow from its size."""
    layer.same("in_features", inputs, layer.whole("in_features"))
    layer.same("activation", activation, short(layer.values.get("activation")))
    for name, expected in (("weight_gain", rate / math.sqrt(inputs)), ("bias_gain", rate)):
        if not math.isclose(layer.number(name), expected, rel_tol=1e-5):
            layer.same(name, f"{expected:g}", f"{layer.number(name):g}")


def _check_chain(network: Module, synthesis: Module, shape: NetworkShape) -> None:
    """Each layer must take what the one before it gives, and the last one must give the image."""
    before: tuple[Any, ...] = (shape.input_channels, shape.input_size, shape.input_rate)
    for layer in shape.layers:
        module = synthesis.module(layer.name)
        takes = (layer.in_channels, layer.in_size, layer.in_rate)
        module.same("input (channels, size, rate)", before, takes)
        module.same("w_dim", shape.w_dim, module.whole("w_dim"))
        module.same("is_torgb", layer is shape.layers[-1], layer.to_rgb)
        _check_fully_connected(module.module("affine", "FullyConnectedLayer"), shape.w_dim, 1.0, "linear")
        before = (layer.out_channels, layer.out_size, layer.out_rate)
    image = (shape.image_channels, shape.image_size)
    if before[:2] != image or synthesis.whole("img_resolution") != shape.image_size:
        raise network.error(f"says its images are {image}, and its layers make {before[:2]}: get the file again")

"""The tensors of an official network: those a shape calls for, and those a file has, which must be the same."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.attributes import Module
from ld3m_plugin.generators.glad.pickles.records import Record, short
from ld3m_plugin.generators.glad.pickles.storages import StoredNumbers, StoredTensor
from ld3m_plugin.generators.glad.stylegan_shape import LayerShape, NetworkShape

_EMBEDDING = "mapping.embed.weight"
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Modules below a network: synthesis, a layer, its affine map. One more than that is a cycle or something else.
_DEEPEST = 4


def expected_tensors(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter and buffer of a network, as the official code names them."""
    channels, w_dim, z_dim = shape.input_channels, shape.w_dim, shape.z_dim
    expected = {
        "synthesis.input.weight": (channels, channels),
        "synthesis.input.transform": (3, 3),
        "synthesis.input.freqs": (channels, 2),
        "synthesis.input.phases": (channels,),
        **_fully_connected("synthesis.input.affine", w_dim, 4),
    }
    for layer in shape.layers:
        expected |= _of_layer(layer, w_dim)
    if shape.classes:
        expected[_EMBEDDING] = (shape.classes, shape.embed_dim)
        expected |= _fully_connected("mapping.embed_proj", shape.embed_dim, z_dim)
    for index in range(shape.mapping_layers):
        first = z_dim * (2 if shape.classes else 1)
        expected |= _fully_connected(f"mapping.fc{index}", w_dim if index else first, w_dim)
    expected["mapping.w_avg"] = (shape.classes, w_dim) if shape.classes else (w_dim,)
    return expected


def _fully_connected(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _of_layer(layer: LayerShape, w_dim: int) -> dict[str, tuple[int, ...]]:
    name = f"synthesis.{layer.name}"
    tensors: dict[str, tuple[int, ...]] = {
        f"{name}.weight": (layer.out_channels, layer.in_channels, layer.kernel, layer.kernel),
        f"{name}.bias": (layer.out_channels,),
        f"{name}.magnitude_ema": (),
        **_fully_connected(f"{name}.affine", w_dim, layer.in_channels),
    }
    if layer.up_taps > 1:
        tensors[f"{name}.up_filter"] = (layer.up_taps,)
    if layer.down_taps > 1:
        radial = layer.radial and not layer.critical
        tensors[f"{name}.down_filter"] = (layer.down_taps,) * (2 if radial else 1)
    return tensors


def read_tensors(network: Module, shape: NetworkShape) -> dict[str, Tensor]:
    """Every tensor of the network by its official name, in float32.

    Raises:
        PriorError: names are missing or left over, a shape is not the network's, or values are damaged or not finite.
    """
    expected = expected_tensors(shape)
    found = _collect(network, _DEEPEST, set())
    _cut_embedding(found, shape)
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        parts = ((missing, "lacks"), (unexpected, "has the unexpected"))
        lists = " and ".join(f"{verb} {_listed(names)}" for names, verb in parts if names)
        raise PriorError(f"{network.file} {lists}: it is damaged, or this kind of network is not converted")
    wrong = [
        f"{name} is {found[name].shape}, not {expected[name]}"
        for name in expected
        if found[name].shape != expected[name]
    ]
    if wrong:
        raise PriorError(f"{network.file} does not fit its own numbers: {_listed(wrong, 5)}; get the file again")
    _check_sharing(found, network.file)
    return {name: _values(found[name], name, network.file) for name in expected}


def _check_sharing(found: dict[str, StoredTensor], file: str) -> None:
    """Tensors that share their numbers would become, each a copy, more memory than the file has bytes."""
    wanted: dict[StoredNumbers, int] = {}
    shared = Counter(tensor.storage for tensor in found.values())
    for name, tensor in found.items():
        wanted[tensor.storage] = wanted.get(tensor.storage, 0) + math.prod(tensor.shape)
        held = len(tensor.storage.data)  # a number has a byte at least
        if shared[tensor.storage] > 1 and wanted[tensor.storage] > held:
            raise PriorError(
                f"{file}: {name} shares its storage of {held} bytes with too many others: it is damaged, get it again"
            )


def _cut_embedding(found: dict[str, StoredTensor], shape: NetworkShape) -> None:
    """The official code gives each network the embeddings of ImageNet's 1000 classes: those it has no class for are unused."""
    stored = found.pop(_EMBEDDING, None)
    if stored is None or not shape.classes:
        return
    if len(stored.shape) == 2 and stored.shape[0] > shape.classes:
        stored = replace(stored, shape=(shape.classes, stored.shape[1]))
    found[_EMBEDDING] = stored


def _collect(module: Module, depth: int, seen: set[Record]) -> dict[str, StoredTensor]:
    prefix = f"{module.place}." if module.place else ""
    found: dict[str, StoredTensor] = {}
    for name, value in (module.parts("_parameters") | module.parts("_buffers")).items():
        if not isinstance(value, StoredTensor):
            raise module.error(f"has a {type(value).__name__} as {short(name)}, not a tensor: get the file again")
        found[f"{prefix}{name}"] = value
    for name, record in module.parts("_modules").items():
        below = module.module(name)
        if record in seen:  # a few names that lead to each other's modules would be no end of paths
            raise module.error(f"has {short(name)}, which is in the network twice: the file is damaged, get it again")
        seen.add(record)
        if not depth:
            raise module.error("has modules below it: this version does not read such networks")
        found |= _collect(below, depth - 1, seen)
    return found


def _values(stored: StoredTensor, name: str, file: str) -> Tensor:
    try:
        tensor = stored.load()
    except Exception as error:  # damaged bytes make torch raise nearly anything
        reason = short(f"{type(error).__name__}: {error}", 200)
        raise PriorError(f"{file}: {name} cannot be read ({reason}): the file is damaged, get it again") from error
    if tensor.dtype not in _FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise PriorError(f"{file}: {name} has values of {kind}, not floating-point ones: get the file again")
    tensor = tensor.detach().to(torch.float32).contiguous()
    if not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
        raise PriorError(f"{file}: {name} has values that are not finite numbers: the file is damaged, get it again")
    if name.endswith(".magnitude_ema") and not tensor > 0:
        raise PriorError(f"{file}: {name} is {float(tensor):g}, and features are divided by it: get the file again")
    return tensor


def _listed(items: list[str], most: int = 10) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(short(item, 200) for item in items[:most]) + rest

"""What a GAN prior is on disk: safetensors and JSON alone.

network.json          the shape of the network (`shape.NetworkShape`)
network.safetensors   parameters and buffers under the names of the official files
prior.json            class names and WordNet ids in row order, source, licence
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.stylegan_shape import LayerShape, NetworkShape, check_shape
from ld3m_plugin.priors import prior_json as facts_files
from ld3m_plugin.priors.prior_json import FACTS, PriorFacts, read_json, write_facts
from ld3m_plugin.storage import complete_folder, write_json, write_tensors

SHAPE, WEIGHTS = "network.json", "network.safetensors"
KIND = "gan"
_FORMAT = 1
_T = TypeVar("_T", LayerShape, NetworkShape)
_ADVICE = "write the prior again"


def save_network(
    out: Path, shape: NetworkShape, tensors: dict[str, Tensor], facts: PriorFacts, *, half: bool = False
) -> None:
    """Write a prior folder, complete or not at all.

    Args:
        tensors: the state of a `GeneratorNetwork` of that shape.
        half: store weights in half precision (they are read back into float32). Frequencies, phases and filters stay whole.

    Raises:
        PriorError: half precision cannot hold a weight.
    """
    if half:
        whole = {name for name in tensors if name.rpartition(".")[2] in ("freqs", "phases", "up_filter", "down_filter")}
        tensors = {name: tensor if name in whole else tensor.half() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise PriorError(f"tensor {name} has values that half precision cannot hold: leave half=true out")
    with complete_folder(out) as folder:
        write_json(folder / SHAPE, {"format": _FORMAT, "kind": KIND, **asdict(shape)})
        write_tensors(folder / WEIGHTS, tensors)
        write_facts(folder, facts, KIND)


def load_network(folder: Path, device: torch.device | str = "cpu") -> tuple[GeneratorNetwork, PriorFacts]:
    """Read a prior folder; weights become float32.

    Raises:
        PriorError: a file is missing or damaged, or the tensors do not fit the shape.
    """
    network = empty_network(read_shape(folder))
    path = folder / WEIGHTS
    try:
        tensors = load_file(str(path))
    except FileNotFoundError as error:
        raise PriorError(f"{path} is missing: {folder} is not a complete prior folder") from error
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{path} is damaged ({error}): {_ADVICE}") from error
    fill(network, tensors, str(path))
    return network.to(device), read_facts(folder, network.shape)


def read_facts(folder: Path, shape: NetworkShape) -> PriorFacts:
    """What `prior.json` says of a network of that shape.

    Raises:
        PriorError: it is damaged, or of another number of classes than the network's.
    """
    facts, classes = facts_files.read_facts(folder, KIND), shape.classes
    if len(facts.classes) not in (0, classes) or facts.null_class is not None:
        raise PriorError(
            f"{folder / FACTS} names {len(facts.classes)} classes and the null class {facts.null_class}, and the network has "
            f"{classes} and none: {_ADVICE}"
        )
    return facts


def empty_network(shape: NetworkShape) -> GeneratorNetwork:
    """A network of that shape without memory for its weights."""
    with torch.device("meta"):
        return GeneratorNetwork(shape)


def fill(network: GeneratorNetwork, tensors: dict[str, Tensor], where: str) -> None:
    """Give the network its tensors, as float32.

    Raises:
        PriorError: names or shapes are others than the network's, or a value is not finite.
    """
    expected = network.state_dict()
    for missing in expected.keys() - tensors.keys():
        raise PriorError(f"{where} has no tensor {missing}: {_ADVICE}")
    for name, tensor in tensors.items():
        if name not in expected or tensor.shape != expected[name].shape:
            wanted = "none of that name" if name not in expected else f"{tuple(expected[name].shape)}"
            raise PriorError(f"{where}: tensor {name} is {tuple(tensor.shape)}, the network has {wanted}: {_ADVICE}")
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise PriorError(f"{where}: tensor {name} has values that are not finite numbers: {_ADVICE}")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)


def read_shape(folder: Path) -> NetworkShape:
    """The shape in `network.json`.

    Raises:
        PriorError: it is missing, damaged, or of another format.
    """
    path = folder / SHAPE
    content = dict(read_json(path))
    if content.pop("format", None) != _FORMAT or content.pop("kind", None) != KIND:
        raise PriorError(f"{path} is not of a GAN in the format {_FORMAT} that this version reads: {_ADVICE}")
    try:
        layers = tuple(_checked(LayerShape, layer) for layer in content["layers"])
        shape = _checked(NetworkShape, {**content, "layers": layers})
        check_shape(shape)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise PriorError(f"{path} is damaged ({error!r}): {_ADVICE}") from error
    return shape


def _checked(kind: type[_T], content: Any) -> _T:
    if not isinstance(content, dict) or not set(content) <= {field.name for field in fields(kind)}:
        raise ValueError(f"not the settings of a {kind.__name__}")
    hints = get_type_hints(kind)
    for name, value in content.items():
        kinds: dict[Any, Any] = {
            float: (int, float),
            int: int,
            str: str,
            bool: bool,
            float | None: (int, float, NoneType),
        }
        allowed = kinds.get(hints[name], tuple)
        if not isinstance(value, allowed) or (isinstance(value, bool) and hints[name] is not bool):
            raise ValueError(f"{name} = {value!r}")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value < 2**31:
            raise ValueError(f"{name} = {value!r}")
    return kind(**content)


def digest(folder: Path) -> str:
    """SHA-256 over the files that make the prior; reports do not count."""
    return facts_files.digest(folder, (folder / SHAPE, folder / WEIGHTS, folder / FACTS))

"""Read and write GAN priors: folders of safetensors and JSON.

network.json          the shape of the network (`stylegan_shape.NetworkShape`)
network.safetensors   parameters and buffers under the names of the official files
prior.json            class names and WordNet ids in row order, source, licence
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.gan_files import SHAPE, WEIGHTS
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork, misfit
from ld3m_plugin.generators.glad.stylegan_shape import NetworkShape
from ld3m_plugin.priors import prior_json as facts_files
from ld3m_plugin.priors.prior_json import FACTS, PriorFacts, read_as, write_facts
from ld3m_plugin.storage import complete_folder, read_tensors, write_json, write_tensors

KIND = "gan"
_ADVICE = "write the prior again"


@dataclass(frozen=True)
class _ShapeFile(NetworkShape):
    format: Literal[1]
    kind: Literal["gan"]


def save_network(
    out: Path, shape: NetworkShape, tensors: dict[str, Tensor], facts: PriorFacts, *, half: bool = False
) -> None:
    """Write a prior folder, complete or not at all.

    Args:
        tensors: the state of a `GeneratorNetwork` of that shape.
        half: store weights in half precision; frequencies, phases and filters stay in float32.

    Raises:
        PriorError: a weight is too large for half precision.
    """
    if half:
        whole = {name for name in tensors if name.rpartition(".")[2] in ("freqs", "phases", "up_filter", "down_filter")}
        tensors = {name: tensor if name in whole else tensor.half() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise PriorError(f"tensor {name} has values that half precision cannot hold: leave out half=true")
    with complete_folder(out) as folder:
        write_json(folder / SHAPE, {"format": 1, "kind": KIND, **asdict(shape)})
        write_tensors(folder / WEIGHTS, tensors)
        write_facts(folder, facts, KIND)


def load_network(folder: Path, device: torch.device | str = "cpu") -> tuple[GeneratorNetwork, PriorFacts]:
    """Read a prior folder, with its weights in float32.

    Raises:
        PriorError: a file is missing or damaged, or the tensors do not fit the shape.
    """
    network = empty_network(read_shape(folder))
    tensors, _ = read_tensors(folder / WEIGHTS, PriorError)
    fill(network, tensors, str(folder / WEIGHTS))
    return network.to(device), read_facts(folder, network.shape)


def read_facts(folder: Path, shape: NetworkShape) -> PriorFacts:
    """Read `prior.json`, which must fit a network of that shape.

    Raises:
        PriorError: the file is damaged, or names another number of classes than the network has.
    """
    facts = facts_files.read_facts(folder, KIND)
    if len(facts.classes) not in (0, shape.classes) or facts.null_class is not None:
        raise PriorError(
            f"{folder / FACTS} has {len(facts.classes)} classes and null class {facts.null_class}, the network has "
            f"{shape.classes} and no null class: {_ADVICE}"
        )
    return facts


def empty_network(shape: NetworkShape) -> GeneratorNetwork:
    """Build a network of that shape that has no memory for its weights."""
    with torch.device("meta"):
        return GeneratorNetwork(shape)


def fill(network: GeneratorNetwork, tensors: dict[str, Tensor], where: str) -> None:
    """Set the weights and buffers of a network, as float32.

    Args:
        where: the file of the tensors, for messages.

    Raises:
        PriorError: names or shapes differ from the network's, or a value is not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if problem := misfit({name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected):
        raise PriorError(f"{where}: {problem}: {_ADVICE}")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise PriorError(f"{where}: tensor {name} has values that are not finite numbers: {_ADVICE}")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)


def read_shape(folder: Path) -> NetworkShape:
    """Read the shape in `network.json`.

    Raises:
        PriorError: the file is missing, damaged, or of another format.
    """
    stored = vars(read_as(TypeAdapter(_ShapeFile), folder / SHAPE))
    return NetworkShape(**{field.name: stored[field.name] for field in fields(NetworkShape)})


def digest(folder: Path) -> str:
    """SHA-256 of the files that make the prior; reports do not count."""
    return facts_files.digest(folder, (folder / SHAPE, folder / WEIGHTS, folder / FACTS))

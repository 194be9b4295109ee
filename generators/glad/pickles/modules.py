"""The modules of an official network: attributes by their paths, each checked before it is used, and tensors."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.limits import one_line
from ld3m_plugin.generators.glad.pickles.stand_ins import Record
from ld3m_plugin.generators.glad.pickles.values import StoredTensor, number_of, read_storage
from ld3m_plugin.generators.glad.stylegan_network import misfit

_T = TypeVar("_T")
_EMBEDDING = "mapping.embed.weight"
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Modules below a network: synthesis, a layer, its affine map. One more than that is a cycle or something else.
_DEEPEST = 4


class NetworkModules:
    """A network in a file. The methods raise `PriorError` where the file has something else than they return.

    Args:
        file: for messages.
        record: of the network.
    """

    def __init__(self, file: str, record: Any) -> None:
        self._file, self._record = file, record
        self._attributes("the network", record)

    def error(self, reason: str) -> PriorError:
        """Return an error about this network."""
        return PriorError(f"{self._file}: {reason}: get the file again, or give a network of StyleGAN-XL")

    def get(self, path: str) -> Any:
        """Return an attribute by a path such as `mapping.embed.embedding_dim`; `class` is the name of a module's class."""
        *places, name = path.split(".")
        record = self._record
        for place in places:
            record = self._group(record, path, "_modules").get(place)
        if name == "_modules":
            return self._group(record, path.removesuffix("._modules"), name)
        attributes = self._attributes(path, record)
        if name != "class" and name not in attributes:
            raise self.error(f"has no {path}")
        return record.class_name if name == "class" else attributes[name]

    def number(self, path: str) -> Any:
        """Return an attribute that is a number, a flag or None."""
        found = self.get(path)
        if found is None or isinstance(found, bool):
            return found
        number = number_of(found)
        if number is None:
            raise self.error(f"{path} is {one_line(found)}, not a number (of a size: the same one twice)")
        return number

    def checked(self, kind: TypeAdapter[_T], paths: dict[str, str], **more: Any) -> _T:
        """Return a dataclass whose fields are the numbers and flags at these paths."""
        fields = {field: self.number(path) for field, path in paths.items()}
        try:
            # Strict validation takes a dataclass out of JSON, but not out of a dictionary.
            return kind.validate_json(json.dumps({**fields, **more}), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = paths[str(first["loc"][0])] if first["loc"] else "the numbers of the network do not fit each other"
            raise self.error(f"{place}: {first['msg']}") from error

    def same(self, path: str, expected: float | str | list[int] | None) -> None:
        """Check that an attribute is what follows from the rest of the file; numbers that are not whole to 1e-5."""
        number = isinstance(expected, int | float) and not isinstance(expected, bool)
        found = self.number(path) if number else self.get(path)
        equal = type(found) is type(expected) and found == expected
        if isinstance(expected, float) and type(found) in (int, float):
            equal = math.isclose(found, expected, rel_tol=1e-5)
        if not equal:
            raise self.error(f"{path} is {one_line(found)}, not {expected}")

    def tensors(self) -> dict[str, StoredTensor]:
        """Return all parameters and buffers, unread, by their paths."""
        return dict(self._tensors(self._record, "", _DEEPEST, set()))

    def _tensors(self, record: Any, prefix: str, depth: int, seen: set[Record]) -> Iterator[tuple[str, StoredTensor]]:
        if depth < 0 or record in seen:  # a few names that lead to each other's modules would be no end of paths
            raise self.error(f"{one_line(prefix)} is in the network twice, or too deep in it")
        seen.add(record)
        for group in ("_parameters", "_buffers", "_modules"):
            for name, value in self._group(record, prefix, group).items():
                path = f"{prefix}{one_line(name)}"
                if value is not None and group == "_modules":
                    yield from self._tensors(value, f"{path}.", depth - 1, seen)
                elif value is not None:
                    yield path, self._tensor(path, value)

    def _tensor(self, path: str, value: Any) -> StoredTensor:
        try:
            return StoredTensor.of(value)
        except Exception as error:  # anything may be in the place of a tensor
            raise self.error(f"{path} is not a tensor ({one_line(error)})") from error

    def _group(self, record: Any, path: str, group: str) -> dict[Any, Any]:
        found = self._attributes(path, record).get(group)
        if not isinstance(found, dict):
            raise self.error(f"{one_line(path)} has no {group}")
        return found

    def _attributes(self, path: str, record: Any) -> dict[Any, Any]:
        if not isinstance(record, Record) or not isinstance(record.state, dict):
            raise self.error(f"{one_line(path)}: found {one_line(record)}, not a module")
        return record.state


def read_tensors(network: NetworkModules, expected: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read every tensor of the network by its official name, in float32.

    Raises:
        PriorError: names are missing or left over, a shape is not the expected one, or values are damaged or not finite.
    """
    found = network.tensors()
    _cut_embedding(found, expected)
    if problem := misfit({name: tensor.shape for name, tensor in found.items()}, expected):
        raise network.error(problem)
    _check_sharing(network, found)
    storages: dict[int, Tensor] = {}
    return {name: _read(network, name, found[name], storages) for name in expected}


def _cut_embedding(found: dict[str, StoredTensor], expected: dict[str, tuple[int, ...]]) -> None:
    """Drop embeddings that no class uses: the official code gives each network those of ImageNet's 1000 classes."""
    stored = found.pop(_EMBEDDING, None)
    if stored is not None and _EMBEDDING in expected:
        rows = min(stored.shape[:1], expected[_EMBEDDING][:1])
        found[_EMBEDDING] = replace(stored, shape=(*rows, *stored.shape[1:]))


def _check_sharing(network: NetworkModules, found: dict[str, StoredTensor]) -> None:
    """Refuse tensors that share their numbers and would become, each a copy, more memory than the file has bytes."""
    shared = Counter(id(tensor.storage) for tensor in found.values())
    wanted: Counter[int] = Counter()
    for name, tensor in found.items():
        key = id(tensor.storage)
        wanted[key] += math.prod(tensor.shape)
        if shared[key] > 1 and wanted[key] > len(tensor.storage):  # a number has a byte at least
            raise network.error(f"has {name}, which shares its storage with too many others")


def _read(network: NetworkModules, name: str, stored: StoredTensor, storages: dict[int, Tensor]) -> Tensor:
    try:
        if id(stored.storage) not in storages:
            storages[id(stored.storage)] = read_storage(stored.storage)
        tensor = stored.view(storages[id(stored.storage)])
    except Exception as error:  # damaged bytes make torch raise nearly anything
        raise network.error(f"has {name}, which cannot be read ({one_line(error, 200)})") from error
    if tensor.dtype not in _FLOATS:
        raise network.error(f"has {name} of {tensor.dtype}, not of floating-point numbers")
    tensor = tensor.detach().to(torch.float32).contiguous()
    if not math.isfinite(tensor.sum()) and not tensor.isfinite().all():
        raise network.error(f"has values in {name} that are not finite numbers")
    if name.endswith(".magnitude_ema") and not tensor > 0:
        raise network.error(f"has {name} = {float(tensor):g}, and features are divided by it")
    return tensor

"""What an official network's modules say about themselves, each number checked before anything is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.arrays import NumberArray
from ld3m_plugin.generators.glad.pickles.records import Record, short

#: Of sizes, channels, rates and classes: far above any network's, far below what overflows.
_LARGEST = 2**20


@dataclass(frozen=True)
class Module:
    """A module of a network.

    Attributes:
        file: for messages.
        place: its name in the network; empty: the network itself.
        kind: name of its class.
        values: its attributes, its modules, parameters and buffers among them.
    """

    file: str
    place: str
    kind: str
    values: dict[Any, Any]

    def error(self, reason: str) -> PriorError:
        """An error about this module."""
        return PriorError(f"{self.file}: {short(self.place) or 'the network'} {reason}")

    def parts(self, group: str) -> dict[str, Any]:
        """Its `_modules`, `_parameters` or `_buffers` that are not None.

        Raises:
            PriorError: it has no such dictionary.
        """
        found = self.values.get(group)
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise self.error(f"has no {group}: it is not a module of PyTorch, get the file again")
        return {name: value for name, value in found.items() if value is not None}

    def module(self, name: str, *kinds: str) -> Module:
        """The module below it that has this name.

        Args:
            kinds: the classes it may be of; none: any.

        Raises:
            PriorError: there is none, or it is of another class.
        """
        below = self.parts("_modules").get(name)
        if below is None:
            raise self.error(f"has no {name}: it is not a network of StyleGAN-XL")
        module = as_module(below, self.file, f"{self.place}.{name}".lstrip("."))
        if kinds and module.kind not in kinds:
            raise module.error(f"is a {short(module.kind)}, not a {kinds[0]}: this version does not read such networks")
        return module

    def whole(self, name: str, low: int = 1) -> int:
        """An attribute that is a whole number, `low` at least.

        Raises:
            PriorError: it is missing or something else.
        """
        value = self.number(name)
        if value != int(value) or not low <= value <= _LARGEST:
            raise self.error(f"has {name} = {value:g}, not a whole number from {low} to {_LARGEST}: get the file again")
        return int(value)

    def number(self, name: str) -> float:
        """An attribute that is a finite number.

        Raises:
            PriorError: it is missing or something else.
        """
        value = self.values.get(name)
        value = value.values.item() if isinstance(value, NumberArray) and value.values.size == 1 else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(f"has no number {name}: it is not a network of StyleGAN-XL, or the file is damaged")
        return float(value)

    def flag(self, name: str) -> bool:
        """An attribute that is true or false.

        Raises:
            PriorError: it is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise self.error(f"does not say {name}: it is not a network of StyleGAN-XL, or the file is damaged")
        return value

    def square(self, name: str) -> int:
        """An attribute that is a size: a whole number, or the same one twice.

        Raises:
            PriorError: it is missing, something else, or of a rectangle.
        """
        value = self.values.get(name)
        sides = value.values if isinstance(value, NumberArray) else numpy.asarray(self.number(name))
        if sides.size not in (1, 2) or sides.dtype.kind not in "iuf":
            raise self.error(f"has no size {name}: it is not a network of StyleGAN-XL, or the file is damaged")
        width, height = (float(sides.flat[index]) for index in (0, -1))
        if width != height or not 1 <= width <= _LARGEST or width != int(width):
            raise self.error(f"has {name} = {width:g} x {height:g}: this version reads networks of square images")
        return int(width)

    def same(self, name: str, expected: object, found: object) -> None:
        """What the file says must be what follows from the rest of it.

        Raises:
            PriorError: it is not.
        """
        if found != expected:
            raise self.error(f"has {name} = {found}, not {expected}: this version does not read such layers")


def as_module(value: Any, file: str, place: str) -> Module:
    """A record as a module.

    Raises:
        PriorError: it is something else.
    """
    if not isinstance(value, Record) or not isinstance(value.state, dict):
        found = short(value.class_name) if isinstance(value, Record) else type(value).__name__
        raise PriorError(
            f"{file}: {short(place) or 'the network'} is a {found}, not a module: it is not a network of StyleGAN-XL"
        )
    return Module(file, place, value.class_name, value.state)

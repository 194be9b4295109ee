"""The option `init` of generators that can start from pictures: any registered initialiser, or noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ld3m_plugin.backends import create
from ld3m_plugin.contracts import Generator, Initialiser, Options, Place, Task
from ld3m_plugin.data.identity import sha256
from ld3m_plugin.errors import PluginLoadError, nearest, one_line
from ld3m_plugin.options import GrownOptions, build, options_model, places, recorded
from ld3m_plugin.registry import blaming, current_registry, described

_KIND = "initialiser"
_DEFAULT = "real"
_OWN = {"init", "init_options"}


class StartOptions(GrownOptions):
    """What a generator starts from; shared by those that can start from pictures."""

    read_later = frozenset({"init_options"})
    added = frozenset({"init_options"})
    #: What the generator calls a start from noise of its own.
    noise_name: ClassVar[str] = "noise"

    init: str = Field(_DEFAULT, description="what it starts from: an initialiser, or noise")
    # A place: it may name a prior. What it decides is in `provenance()`, as a digest.
    init_options: Annotated[dict[str, Any], Place(is_path=False)] = Field(
        default_factory=dict,
        description="options of that initialiser, such as {prior: FOLDER}; those that the generator has as well are lent by it",
    )

    @model_validator(mode="before")
    @classmethod
    def _known_start(cls, values: Any) -> Any:
        """Check the initialiser and its options, and make paths among these absolute."""
        if not isinstance(values, Mapping):
            return values
        name, given = values.get("init", _DEFAULT), values.get("init_options") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            return values  # refused by the types of the fields
        if name == cls.noise_name:
            if given:
                raise ValueError(f"init_options: a start from {name} has none: leave them out")
            return values
        names = current_registry().names(_KIND) if name != _DEFAULT else [name]
        if name not in names:
            raise ValueError(f"init = {one_line(repr(name))}: {nearest(name, [cls.noise_name, *names])}")
        if not given:
            return values
        model = options_model(current_registry().resolve(_KIND, name)) or Options
        complete = recorded(build(model, given, f"init_options of {_KIND} {name!r}"))
        return {**values, "init_options": {key: complete[key] for key in given}}


class StartsFromPictures(Generator):
    """Base of generators that can start from pictures. Options derive from `StartOptions`."""

    _made: Initialiser | None = None

    @property
    def initialiser(self) -> Initialiser | None:
        """What the option `init` names; None for noise. Options of the same name are the generator's own."""
        name, options = self.options.init, self.options
        if self._made is None and name != options.noise_name:
            model = options_model(current_registry().resolve(_KIND, name)) or Options
            shared = (model.model_fields.keys() & type(options).model_fields.keys()) - _OWN
            lent = {key: getattr(options, key) for key in shared}
            self._made = cast(Initialiser, create(_KIND, name, {**lent, **options.init_options}))
        return self._made

    def prepare(self, task: Task) -> None:
        """Let the initialiser check what it needs; raises its errors."""
        if self.initialiser is not None:
            with blaming(_KIND, self.options.init, "prepare"):
                self.initialiser.prepare(task)

    def start_images(self, initialiser: Initialiser, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images (N, C, H, W) of the initialiser, normalised, on the task's device.

        Raises:
            DataError: a class has too few images.
            PluginLoadError: it gave images of another shape, or values that are not finite.
        """
        name, expected = self.options.init, (len(labels), task.channels, task.image_size, task.image_size)
        with blaming(_KIND, name, "images"):
            images = initialiser.images(task, labels, rng)
        if tuple(images.shape) != expected or not torch.isfinite(images).all():
            raise PluginLoadError(
                f"{described(_KIND, name)} gave images {tuple(images.shape)}: they must be {expected} and finite"
            )
        return images.to(task.device, torch.float32)

    def start(self) -> str:
        return "noise" if self.initialiser is None else self.initialiser.start()

    def provenance(self) -> dict[str, str]:
        """What decides the start beside `init`: a digest of the initialiser's options and facts, and the facts; often nothing."""
        if self.initialiser is None:
            return {}
        options, facts = self.initialiser.options, self.initialiser.provenance()
        settings = options.model_dump(mode="json", exclude=set(places(type(options))))
        if not settings and not facts:
            return {}
        told = {f"init_options_{name}": fact for name, fact in facts.items()}
        return {"init_options_sha256": sha256((settings, facts)), **told}

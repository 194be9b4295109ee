"""The option `init` of generators that can start from pictures: any registered initialiser, or noise. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from ld3m_plugin.errors import nearest, one_line
from ld3m_plugin.options import GrownOptions, Options, Place, RatedOptions, build, recorded
from ld3m_plugin.registry import current_registry

KIND, DEFAULT = "initialiser", "real"


class StartOptions(GrownOptions, RatedOptions):
    """What a generator starts from; shared by those that can start from pictures."""

    read_later = frozenset({"init_options"})
    added = frozenset({"init_options"})
    #: What the generator calls a start from noise of its own.
    noise_name: ClassVar[str] = "noise"

    init: str = Field(DEFAULT, description="what it starts from: an initialiser, or noise")
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
        name, given = values.get("init", DEFAULT), values.get("init_options") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping):
            return values  # refused by the types of the fields
        if name == cls.noise_name:
            if given:
                raise ValueError(f"init_options: a start from {name} has none: leave them out")
            return values
        names = current_registry().names(KIND) if name != DEFAULT else [name]
        if name not in names:
            raise ValueError(f"init = {one_line(repr(name))}: {nearest(name, [cls.noise_name, *names])}")
        if not given:
            return values
        model = current_registry().options(KIND, name) or Options
        complete = recorded(build(model, given, f"init_options of {KIND} {name!r}"))
        return {**values, "init_options": {key: complete[key] for key in given}}

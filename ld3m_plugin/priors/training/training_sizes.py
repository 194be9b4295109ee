"""Sizes of a training: one word in place of nine options. Times: docs/priors.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ld3m_plugin.priors.training.training_options import PriorTrainingOptions


class SizedTrainingOptions(PriorTrainingOptions):
    """Training options whose defaults `size` chooses; what is given beside it wins."""

    #: Other defaults, by size; those of the fields are `base`.
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    size: Literal["tiny", "small", "base"] = Field(
        "base",
        description="defaults of all other options: tiny (minutes on two cores), small, or base (the shipped prior's, printed "
        "here); measured times are in docs/priors.md",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_size(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**cls.defaults(values), **values}

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The defaults that differ from those of the fields, beside the options that are `given`, of which one is the size."""
        size = given.get("size", "base")
        return cls.sizes.get(size, {}) if isinstance(size, str) else {}


#: Of the report of a small training: fewer samples, and a classifier that is trained for less long.
TINY_REPORT: Mapping[str, Any] = {"report_per_class": 40, "judge_least_steps": 150, "warmup": 50, "samples_every": 200}
SMALL_REPORT: Mapping[str, Any] = {"report_per_class": 100, "judge_least_steps": 400}

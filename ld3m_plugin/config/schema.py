"""All settings of a run: a pydantic model for each part."""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ld3m_plugin.options import GrownOptions, Options
from ld3m_plugin.plain_yaml import dump_yaml
from ld3m_plugin.presets import load_preset

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@cache
def _default_name(part: str) -> str:
    """The name that preset `default` has for one part of the configuration."""
    return str(load_preset("default").config[part]["name"])


class _Choice(Options):
    """A registered name, with the options it takes (`ld3m plugins show NAME` lists them)."""

    read_later = frozenset({"options"})

    name: str
    options: dict[str, Any] = Field(default_factory=dict, description="its own options")


class DataConfig(_Choice):
    """Which data set, and how it is read."""

    name: str = Field(
        default_factory=partial(_default_name, "data"),
        description="registered data set, with its argument: NAME or NAME:ARGUMENT",
    )


class GeneratorConfig(_Choice):
    """A generator by name, with its options."""

    name: str = Field(default_factory=partial(_default_name, "generator"), description="registered generator")


class ObjectiveConfig(_Choice):
    """An objective by name, with its options."""

    name: str = Field(default_factory=partial(_default_name, "objective"), description="registered objective")


class TrackerConfig(_Choice):
    """A tracker by name, with its options; one without options is read and written as its name."""

    name: str = Field(description="registered tracker")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_name(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return serialize(self) if self.options else self.name


class OptimizerConfig(Options):
    """How latents are updated."""

    name: Literal["adam", "sgd"] = Field("adam", description="Adam, or SGD with momentum as published")
    learning_rates: dict[str, Rate] = Field(
        default_factory=dict, description="by latent name; default for Adam: the generator's own"
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="of SGD (published: 0.5)")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="of Adam")


class EvaluationConfig(GrownOptions):
    """How the images are tested, at the end and during the run."""

    read_later = frozenset({"protocol"})
    added = frozenset({"together"})

    protocol: str | dict[str, Any] = Field(
        "quick",
        description="training recipe: a registered name, a YAML file, or the fields of one; stored with every result",
    )
    networks: tuple[str, ...] = Field((), description="architectures; default: the protocol's own")
    repeats: int | None = Field(None, ge=1, description="networks trained for each row; default: the protocol's own")
    every: int = Field(0, ge=0, description="also evaluate every that many steps (0: only the end)")
    final: bool = Field(True, description="evaluate the final images")
    random_real: bool = Field(True, description="also evaluate random real images at the end")
    test_per_class: int | None = Field(
        None, ge=1, description="test images used of each class, evenly spaced; default: all"
    )
    together: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = Field(
        "auto", description="networks of a row trained at once, at most; 1: one by one; auto: by their sizes"
    )


class RunConfig(Options):
    """All settings of a run. A run folder holds them, completed, as `config.yaml`."""

    data: DataConfig = Field(default_factory=DataConfig)
    generator: GeneratorConfig = Field(default_factory=GeneratorConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    images_per_class: int = Field(1, ge=1, description="I, synthetic images of each class")
    steps: int = Field(200, ge=0, description="updates of the latents")
    seconds: float | None = Field(
        None, gt=0, description="stop after steps of that many seconds in all, if they come before the last of `steps`"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="all random streams derive from it")
    optimizer: OptimizerConfig = OptimizerConfig()
    render_batch: int | None = Field(
        None,
        ge=1,
        description="latent rows rendered at a time (a chunk is rendered again in the backward pass); default: all",
    )
    autocast: Literal["none", "bf16"] = Field("none", description="mixed precision of rendering and matching")
    tf32: Literal["none", "convolutions", "all"] = Field(
        "convolutions",
        description="TF32 on CUDA: nowhere, in convolutions as published (torch's default), or in matrix products too",
    )
    device: str = Field("auto", description="'cpu', 'cuda', 'cuda:1', 'mps', or 'auto' for the best available")
    checkpoint_every: int = Field(100, ge=0, description="steps between checkpoints (0: only when the run ends)")
    evaluation: EvaluationConfig = EvaluationConfig()
    trackers: tuple[TrackerConfig, ...] = Field(
        (), description="trackers beside metrics.jsonl, each a name or {name: NAME, options: {...}}"
    )


def changed(config: RunConfig, part: str, **settings: Any) -> RunConfig:
    """Copy a configuration with other settings in one part."""
    return config.model_copy(update={part: getattr(config, part).model_copy(update=settings)})


def dump(config: RunConfig) -> str:
    """The configuration as YAML, complete and in the order of its definition."""
    return dump_yaml(config.model_dump(mode="json"))

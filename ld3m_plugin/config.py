"""The configuration of a run: a pydantic model for each part, and how files, presets and flags compose."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import GrownOptions, Options, build, places, recorded
from ld3m_plugin.plain_yaml import dump_yaml, parse_value, read_yaml
from ld3m_plugin.presets import load_preset

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]

# Settings that belong to a choice and are dropped with it: a backend's options mean nothing to another one, Adam's learning
# rates are wrong for SGD, and other networks or a part of the test set are not the published protocol.
_BELONGS_TO = {
    "data.name": ("data.options",),
    "generator.name": ("generator.options", "optimizer.learning_rates"),
    "objective.name": ("objective.options",),
    "optimizer.name": ("optimizer.learning_rates",),
    "evaluation.protocol": ("evaluation.networks", "evaluation.repeats", "evaluation.test_per_class"),
}


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


def resolve(
    files: Iterable[Path] = (),
    presets: Iterable[str] = (),
    settings: Iterable[tuple[str, Any]] = (),
    layers: Iterable[dict[str, Any]] = (),
) -> RunConfig:
    """Compose configuration files, then presets, then layers, then single settings; later ones win.

    Args:
        files: YAML files, each with some settings of a `RunConfig`.
        presets: names of shipped presets.
        settings: dotted paths and values, such as `("generator.options.init", "noise")`.
        layers: contents of such files.

    Raises:
        UsageError: a file that is missing or not YAML, an unknown preset, setting or value.
    """
    merged: dict[str, Any] = {}
    for layer in (*map(read_layer, files), *(load_preset(preset).config for preset in presets), *layers):
        for path in _BELONGS_TO:
            part, key = path.split(".")
            if isinstance(layer.get(part), Mapping) and key in layer[part]:
                _choose(merged, path, layer[part][key])
        merge(merged, layer)
    # Choices are applied first: the options of a command line are for the backends it names, in any order.
    settings = list(settings)
    for path, value in dict(settings).items():
        if path in _BELONGS_TO:
            _choose(merged, path, value)
    for path, value in settings:
        assign(merged, path, value)
    return build(RunConfig, merged, "the configuration")


def read_layer(path: Path) -> dict[str, Any]:
    """Read a YAML file with some settings of a `RunConfig`, which may be a run's `config.yaml`."""
    layer = read_yaml(path)
    data = layer.get("data")
    if isinstance(data, dict) and isinstance(data.get("options"), dict):
        from ld3m_plugin.data.data_settings import recorded_options

        name = str(data.get("name", DataConfig().name))
        with _located("data"):  # the file may be a run's config.yaml
            data["options"] = recorded_options(name, data["options"], by_hand=True)
    return layer


def _choose(merged: dict[str, Any], path: str, value: Any) -> None:
    """Drop the settings that belong to the former choice at `path`, if `value` is another one."""
    part, key = path.split(".")
    settings = merged.get(part, {})
    old = settings.get(key) if isinstance(settings, dict) else None
    if old is None:
        old = getattr(getattr(RunConfig(), part), key)
    # `imagefolder:a` and `imagefolder:b` are one data set with two arguments: its options stay.
    if str(old).partition(":")[0] != str(value).partition(":")[0]:
        for dependent in _BELONGS_TO[path]:
            part, key = dependent.split(".")
            if isinstance(merged.get(part), dict):
                merged[part].pop(key, None)


def merge(base: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Put `update` over `base`, part by part. An option is replaced whole: only its backend knows what is in it.

    >>> merge({"generator": {"name": "a", "options": {"x": {"y": 1}}}}, {"generator": {"options": {"x": {}}}})
    {'generator': {'name': 'a', 'options': {'x': {}}}}
    """
    for key, value in update.items():
        old = base.get(key)
        if not (isinstance(value, Mapping) and isinstance(old, dict)):
            base[key] = copy.deepcopy(value)
        elif key == "options":
            base[key] = {**old, **copy.deepcopy(dict(value))}
        elif key == "protocol":  # a recipe is one thing: fields of two would be a third
            base[key] = copy.deepcopy(dict(value))
        else:
            merge(old, value)
    return base


def assign(base: dict[str, Any], path: str, value: Any) -> None:
    """Set one value by its dotted path, such as `optimizer.name`, replacing what was there.

    >>> settings = {"generator": {"options": {"x": {"a": 1}}}}
    >>> assign(settings, "generator.options.x.b", 2)
    >>> assign(settings, "generator.options.y", {})
    >>> settings
    {'generator': {'options': {'x': {'a': 1, 'b': 2}, 'y': {}}}}

    Raises:
        UsageError: the path has an empty part, or leads through something that holds no settings.
    """
    *parents, last = path.split(".")
    if not (last and all(parents)):
        raise UsageError(f"{path!r} is not a setting: write it as part.name, such as optimizer.name=sgd")
    for key in parents:
        base = base.setdefault(key, {})
        if not isinstance(base, dict):
            raise UsageError(f"{path!r} is not a setting: {key!r} is a single value")
    base[last] = copy.deepcopy(value)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `path=value`; the value is read by `plain_yaml.parse_value`.

    >>> parse_assignment("optimizer.learning_rates.pixels=0.1")
    ('optimizer.learning_rates.pixels', 0.1)

    Raises:
        UsageError: there is no `=`.
    """
    path, separator, value = text.partition("=")
    if not separator or not path:
        raise UsageError(f"{text!r} is not an assignment: write key=value")
    return path, parse_value(value)


def changed(config: RunConfig, part: str, **settings: Any) -> RunConfig:
    """Copy a configuration with other settings in one part."""
    return config.model_copy(update={part: getattr(config, part).model_copy(update=settings)})


def dump(config: RunConfig) -> str:
    """The configuration as YAML, complete and in the order of its definition."""
    return dump_yaml(config.model_dump(mode="json"))


_FREE = {"steps", "seconds", "device", "checkpoint_every", "evaluation", "trackers", "render_batch"}


#: Settings that are younger than some checkpoints, and count only where they are not the default, which is what those had.
_YOUNGER = ("tf32",)


def digest(config: RunConfig) -> str:
    """A digest of the settings that decide a step (`decisive`); a checkpoint records it."""
    return _digest(decisive(config))


def former_digest(config: RunConfig) -> str:
    """The digest in checkpoints of version 0.1, which counts most paths as settings."""
    settings = config.model_dump(mode="json", exclude=_FREE | set(_YOUNGER))
    settings["data"]["options"].pop("root", None)
    return _digest(settings)


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def decisive(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the images, as plain data.

    No place is among them (`options.places`): data and priors may move, and are compared by what they hold.

    Raises:
        UsageError: the name of a data set, a generator or an objective is unknown.
    """
    from ld3m_plugin.data.data_settings import without_places
    from ld3m_plugin.registry import current_registry

    at_default = {name for name in _YOUNGER if getattr(config, name) == RunConfig.model_fields[name].default}
    settings = config.model_dump(mode="json", exclude=_FREE | at_default)
    settings["data"] = without_places(config.data.name, settings["data"]["options"])
    for kind in ("generator", "objective"):
        model = current_registry().options(kind, settings[kind]["name"])
        for name in places(model) if model is not None else ():
            settings[kind]["options"].pop(name, None)
    return settings


def completed(config: RunConfig) -> RunConfig:
    """Write out all options of the backends, learning rates, networks and repeats, so that the run stays the same when a later
    version has other defaults, and make paths absolute, so that it goes on from any folder.

    Raises:
        UsageError: an unknown name, option or value.
    """
    from ld3m_plugin.backends import complete_options, rates_of
    from ld3m_plugin.data.data_settings import absolute_data
    from ld3m_plugin.evaluation.protocols import get_protocol
    from ld3m_plugin.registry import current_registry

    registry, recipe = current_registry(), config.evaluation.protocol
    with _located("evaluation", "protocol"):
        protocol = get_protocol(recipe)
    trackers = tuple(map(_completed_tracker, config.trackers))
    networks = config.evaluation.networks or protocol.networks
    with _located("evaluation", "networks"):
        for network in networks:
            registry.find("network", network)
    with _located("data"):
        data = absolute_data(config.data.name, config.data.options)
    with _located("generator"):
        generator = complete_options("generator", config.generator.name, config.generator.options)
    with _located("objective"):
        objective = complete_options("objective", config.objective.name, config.objective.options)
    defaults = (
        rates_of(config.generator.name, config.generator.options, config.objective.name)
        if config.optimizer.name == "adam"
        else {}
    )
    rates = {**defaults, **config.optimizer.learning_rates}
    changes: dict[str, dict[str, Any]] = {
        "data": data,
        "generator": {"options": recorded(generator)},
        "objective": {"options": recorded(objective)},
        "optimizer": {"learning_rates": rates},
        "evaluation": {
            # A recipe that is not registered is recorded whole: its file may change.
            "protocol": recipe if recipe == protocol.name else protocol.model_dump(mode="json"),
            "networks": networks,
            "repeats": config.evaluation.repeats or protocol.repeats,
        },
    }
    parts = {part: getattr(config, part).model_copy(update=change) for part, change in changes.items()}
    return config.model_copy(update={**parts, "trackers": trackers})


@contextmanager
def _located(part: str, key: str = "") -> Iterator[None]:
    """Say of an error which setting is wrong: `part`.`key`; without a key, the part's name or, where one is named, its option."""
    try:
        yield
    except UsageError as error:
        if key:
            error.location = (part, key)
        elif not error.location:
            error.location = (part, "name")
        elif error.location[0] != part:
            error.location = (part, "options", *error.location)
        raise


def _completed_tracker(tracker: TrackerConfig) -> TrackerConfig:
    from ld3m_plugin.backends import tracker_options
    from ld3m_plugin.registry import current_registry

    current_registry().find("tracker", tracker.name)
    if not tracker.options:  # its class is left to the run: whatever is wrong with a tracker stops no run
        return tracker
    return tracker.model_copy(update={"options": recorded(tracker_options(tracker.name, tracker.options))})

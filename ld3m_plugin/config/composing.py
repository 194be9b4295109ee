"""How files, presets and flags compose to the settings of a run."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ld3m_plugin.config.located import located
from ld3m_plugin.config.schema import DataConfig, RunConfig
from ld3m_plugin.errors import UsageError
from ld3m_plugin.options import build
from ld3m_plugin.plain_yaml import parse_value, read_yaml
from ld3m_plugin.presets import load_preset

# Settings that belong to a choice and are dropped with it: a backend's options mean nothing to another one, Adam's learning
# rates are wrong for SGD, and other networks or a part of the test set are not the published protocol.
_BELONGS_TO = {
    "data.name": ("data.options",),
    "generator.name": ("generator.options", "optimizer.learning_rates"),
    "objective.name": ("objective.options",),
    "optimizer.name": ("optimizer.learning_rates",),
    "evaluation.protocol": ("evaluation.networks", "evaluation.repeats", "evaluation.test_per_class"),
}


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
        with located("data"):  # the file may be a run's config.yaml
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

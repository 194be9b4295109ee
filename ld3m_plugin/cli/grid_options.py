"""The arguments of `ld3m compare` as fields of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import comma_list, pairs
from ld3m_plugin.errors import UsageError

#: Steps of a row whose budget is seconds.
_NO_LIMIT = 10**6


def grid_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `GridConfig` from the arguments of the command.

    Raises:
        UsageError: a text that is no assignment, number or list of names.
    """
    from ld3m_plugin.comparison.grid import choose_data
    from ld3m_plugin.config import assign, merge, read_layer
    from ld3m_plugin.plain_yaml import parse_value

    lists = {
        "controls": "controls",
        "generators": "generators",
        "objectives": "objectives",
        "seeds": "seeds",
        "images_per_class": "ipc",
        "rate_factors": "rate_factors",
    }
    found: dict[str, Any] = {field: comma_list(given[name]) for field, name in lists.items() if given[name] is not None}
    if found.get("controls") == ["none"]:
        found["controls"] = []
    for field in ("seeds", "images_per_class", "rate_factors"):
        if field in found:
            found[field] = [parse_value(text) for text in found[field]]
    plain = ("data", "equal", "baseline", "random_real", "threads")
    found |= {name: given[name] for name in plain if given[name] is not None and given[name] != []}
    if given["vary"]:
        found["vary"] = dict(_varied(text) for text in given["vary"])
    if given["rates"]:
        found["rates"] = _rates(given["rates"])
    layer: dict[str, Any] = {}
    for file in given["config"] or ():
        merge(layer, read_layer(file))
    choose_data(layer, given["data"])
    shared = ("steps", "device", "protocol", "networks", "repeats", "test_per_class", "select_on")
    values = [(flags.PATHS[name], given[name]) for name in shared if given.get(name) is not None]
    options = [(f"data.options.{key}", value) for key, value in pairs(given["data_options"])]
    for path, value in (*_budget(given["budget"]), *pairs(given["settings"]), *values, *options):
        if path.partition(".")[0] == "generator":
            raise UsageError(f"{path!r} is a setting of one generator: choose --generators, give -G NAME.KEY=VALUE")
        if path != "data.name" or not given["data"]:
            assign(layer, path, value)
    if layer:
        found["config"] = layer
    for kind in ("generator", "objective"):
        named = _by_name(kind, given[f"{kind}_options"], partial(_compared, kind, given, found))
        if named:
            found[f"{kind}_options"] = named
    return found


def _varied(text: str) -> tuple[str, tuple[Any, ...]]:
    from ld3m_plugin.config import parse_assignment
    from ld3m_plugin.plain_yaml import parse_value

    path, separator, values = text.partition("=")
    if not separator:
        parse_assignment(text)  # raises
    if not any(sign in values for sign in "[{"):
        return path, tuple(parse_value(part) for part in values.split(","))
    listed = parse_value(f"[{values}]")  # lists and mappings have commas of their own
    if not isinstance(listed, list):
        raise UsageError(f"--vary {text}: write values with commas between them, such as {path}=[a],[b]")
    return path, tuple(listed[0] if len(listed) == 1 and isinstance(listed[0], list) else listed)


def _rates(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rates by generator, or by generator+objective, then by latent."""
    from ld3m_plugin.registry import current_registry

    registry = current_registry()
    generators, objectives = registry.names("generator"), registry.names("objective")
    known = [*generators, *(f"{one}+{other}" for one, other in product(generators, objectives))]
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, separator, _ = text.partition("=")
        name = _owner(path, known) or path.rpartition(".")[0]
        if not separator or not name:
            raise UsageError(f"--rate {text}: write --rate NAME.LATENT=VALUE, such as ld3m.latent=0.02")
        ((_, value),) = pairs([text])
        found.setdefault(name, {})[path.removeprefix(f"{name}.")] = value
    return found


def _budget(text: str | None) -> Iterable[tuple[str, Any]]:
    """The settings of `--budget`: steps, or seconds=N."""
    if text in (None, "steps"):
        return ()
    name, _, amount = str(text).partition("=")
    try:
        if name == "steps":
            return (("steps", int(amount)),)
        seconds = float(amount)
    except ValueError:
        seconds = math.nan
    if name != "seconds" or not math.isfinite(seconds):
        raise UsageError(f"--budget {text}: write steps, steps=N or seconds=N")
    return ("seconds", seconds), ("steps", _NO_LIMIT)


def _compared(kind: str, given: Mapping[str, Any], found: Mapping[str, Any]) -> Sequence[str]:
    """Names of what is compared, whether arguments, grid files or presets choose it."""
    from ld3m_plugin.comparison.grid import read_grid
    from ld3m_plugin.config import resolve

    grid = read_grid(tuple(given["grid"] or ()), tuple(given["preset"] or ()), found)
    if kind == "generator":
        return grid.generators
    return grid.objectives or (resolve(presets=grid.presets, layers=[grid.config]).objective.name,)


def _by_name(
    kind: str, texts: Sequence[str] | None, compared: Callable[[], Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Options by the name of their backend; without a name they are for the only one that is compared.

    A name that is not compared is refused later, when presets and grid files have named theirs.
    """
    from ld3m_plugin.registry import current_registry

    registry = current_registry()
    known = registry.names(kind) + (registry.names("initialiser") if kind == "generator" else [])
    options: dict[str, dict[str, Any]] = {}
    for path, value in pairs(list(texts or ())):
        name = _owner(path, known)
        key = path if name is None else path.removeprefix(f"{name}.")
        if name is None:
            names = compared()
            if len(names) != 1:
                flag = "-G" if kind == "generator" else "-O"
                raise UsageError(f"{flag} {path}: whose option is it? Write {flag} NAME.KEY=VALUE")
            name = names[0]
        options.setdefault(name, {})[key] = value
    return options


def _owner(path: str, known: Sequence[str]) -> str | None:
    """The known name that a path begins with. A name may contain dots itself: the longest that fits."""
    return max((name for name in known if path.startswith(f"{name}.")), key=len, default=None)

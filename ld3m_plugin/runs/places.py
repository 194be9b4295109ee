"""Where the data, the prior and the experts of a run lie: the settings that may change when it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ld3m_plugin.config import DataConfig, RunConfig
from ld3m_plugin.data.data_settings import absolute_data, argument_place, data_model, moved_data, recorded_options
from ld3m_plugin.errors import ArtefactError, HostError, UsageError
from ld3m_plugin.options import Place, build, places, recorded
from ld3m_plugin.registry import current_registry

_FLAGS = {"data": "-D", "generator": "-G", "objective": "-O"}


def moved(config: RunConfig, given: Iterable[tuple[str, Any]]) -> RunConfig:
    """Copy the settings of a run with other places; new paths are made absolute.

    Args:
        given: dotted paths and values, such as `("generator.options.prior", "/new/place")`.

    Raises:
        UsageError: a setting that is no place: it decides results, or how they are recorded.
    """
    options: dict[str, dict[str, Any]] = {}
    name = config.data.name
    for path, value in given:
        part, _, key = path.partition(".options.")
        if path == "data.name":
            name = _other_argument(config.data.name, str(value))
        elif part in _FLAGS and key in _places(part, getattr(config, part).name):
            options.setdefault(part, {})[key] = value
        else:
            raise UsageError(
                f"{_typed(path)} cannot be given with --resume, since the run goes on with its own settings: leave it out, "
                f"or start a new run. What may be given is --device, and where things lie now: {', '.join(_ways(config))}"
            )
    changes: dict[str, dict[str, Any]] = {
        part: {"options": _with(part, getattr(config, part).name, getattr(config, part).options, new)}
        for part, new in options.items()
        if part != "data"
    }
    if name != config.data.name or "data" in options:
        changes["data"] = _moved_data(config.data, name, options.get("data", {}))
    parts = {part: getattr(config, part).model_copy(update=change) for part, change in changes.items()}
    return config.model_copy(update=parts)


def _moved_data(data: DataConfig, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = recorded_options(name, data.options)
    if name == data.name:
        return absolute_data(*moved_data(name, known, given))
    # A new name is the whole new place: the former root is no part of it.
    kept = {key: value for key, value in known.items() if key not in _places("data", name)}
    return absolute_data(name, {**kept, **given})


@contextmanager
def said_if_missing(config: RunConfig, folder: Path) -> Iterator[None]:
    """Turn an error into one that names a place of the run in `folder`, if that is not there any more.

    Raises:
        ArtefactError: it is missing; the message says how to name another.
    """
    try:
        yield
    except (HostError, OSError) as error:
        for flag, path in _paths(config):
            if not path.exists():
                raise ArtefactError(
                    f"{path} is not there, and the run in {folder} needs it: put it back, or name where it is now: "
                    f"ld3m distill --resume {folder} {flag}NEW"
                ) from error
        raise


def same_places(one: RunConfig, other: RunConfig) -> bool:
    """Whether two completed configurations name the same places."""
    return _places_of(one) == _places_of(other)


def _places_of(config: RunConfig) -> list[Any]:
    found: list[Any] = [config.data.name]
    for part in _FLAGS:
        chosen = getattr(config, part)
        found += [(part, key, chosen.options.get(key)) for key in _places(part, chosen.name)]
    return found


def _places(part: str, name: str) -> dict[str, Place]:
    model = data_model(name) if part == "data" else current_registry().options(part, name)
    return {} if model is None else places(model)


def _with(part: str, name: str, options: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    model = current_registry().options(part, name)
    if model is None:  # it has no places, and `moved` refused the option
        return dict(options)
    made = recorded(build(model, {**options, **new}, f"{part} {name!r}"))
    return {**options, **{key: made[key] for key in new}}


def _other_argument(old: str, new: str) -> str:
    if old != new and (old.partition(":")[0] != new.partition(":")[0] or argument_place(old) is None):
        raise UsageError(
            f"--data {new} is other data than the run's, {old}: a run goes on with the same data only; start a new run"
        )
    return new


def _typed(path: str) -> str:
    """A setting as it is typed on the command line."""
    part, _, key = path.partition(".options.")
    return f"{_FLAGS[part]} {key}" if key and part in _FLAGS else path


def _ways(config: RunConfig) -> list[str]:
    base = config.data.name.partition(":")[0]
    ways = [f"--data {base}:PATH"] if argument_place(base) is not None else []
    for part, flag in _FLAGS.items():
        ways += [f"{flag} {key}=..." for key in _places(part, getattr(config, part).name)]
    return ways


def _paths(config: RunConfig) -> Iterable[tuple[str, Path]]:
    """Paths among the settings, each with the option that names it."""
    base, _, argument = config.data.name.partition(":")
    if argument_place(base) is not None and argument and not config.data.options.get("root"):
        yield f"--data {base}:", Path(argument).expanduser()
    for part, flag in _FLAGS.items():
        chosen = getattr(config, part)
        for key, place in _places(part, chosen.name).items():
            value = chosen.options.get(key)
            if isinstance(value, str) and place.is_path and value not in place.names and Path(value).is_absolute():
                yield f"{flag} {key}=", Path(value)

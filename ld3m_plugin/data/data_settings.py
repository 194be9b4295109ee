"""Settings of a data set as records hold them: its options and those that every data set has. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from ld3m_plugin.images.image_options import DataOptions
from ld3m_plugin.options import Options, Place, build, places, recorded
from ld3m_plugin.registry import current_registry

#: The options that every data set has.
SELECT_ON, ZCA = "select_on", "zca"


def full_options(own: type[Options] | None) -> type[Options]:
    """The options of a data set: its own (default: `DataOptions`), `select_on` and `zca`."""
    return _with_common(own or DataOptions)


@cache
def _with_common(own: type[Options]) -> type[Options]:
    if SELECT_ON in own.model_fields:
        return own
    choice: Any = (
        Literal["test", "validation"],
        Field(
            "test",
            description="what accuracies are of: the test set, or training images that are held out from everything else, for "
            "choosing settings",
        ),
    )
    whitening: Any = (
        bool,
        Field(
            False,
            description="ZCA whitening of all images (of up to 64x64 pixels), fitted on the training images with eps 0.1, "
            "as for MTT; undone in pictures",
        ),
    )
    return create_model(own.__name__, __base__=own, __doc__=own.__doc__, **{SELECT_ON: choice, ZCA: whitening})


def own_options(settings: Options, own: type[Options] | None) -> Options:
    """The settings as an instance of the data set's own options."""
    model = own or DataOptions
    return model(**{name: getattr(settings, name) for name in settings.model_fields_set & set(model.model_fields)})


def data_options(name: str, options: Mapping[str, Any]) -> Options:
    """Check options for the data set `name` (NAME or NAME:ARGUMENT) without reading it.

    Raises:
        UsageError: as `load_task`.
    """
    base = name.partition(":")[0]
    return build(data_model(name), options, f"data set {base!r}", "-D")


def absolute_data(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Compose `name` and `options` of a data set for a record that is read from another folder: complete, paths absolute.

    Raises:
        UsageError: as `load_task`.
    """
    (base, _, argument), made = name.partition(":"), recorded(data_options(name, options))
    if made[SELECT_ON] == "test":  # records of older versions do not have it, and are of the same runs
        del made[SELECT_ON]
    if not made[ZCA]:
        del made[ZCA]
    place = argument_place(name)
    # Below a root, the argument is a part of the data set.
    if place is not None and argument and made.get("root") is None:
        name = f"{base}:{place.absolute(Path(argument))}"
    return {"name": name, "options": made}


def moved_data(name: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Compose name and options of recorded data with the options `given`; a root replaces a recorded path in the name."""
    base, _, argument = name.partition(":")
    replaced = given.get("root") is not None and options.get("root") is None and argument
    options = {**options, **given}
    if replaced and argument_place(name) is not None:
        name = f"{base}:{options.pop('root')}"
    return name, options


def argument_place(name: str) -> Place | None:
    """Mark of the data set `name` (NAME or NAME:ARGUMENT), if its argument says where the data lies."""
    registry, base = current_registry(), name.partition(":")[0]
    place = getattr(registry.options("dataset", base), "argument", None)
    if place is None and registry.find("dataset", base).options is None:
        place = getattr(registry.resolve("dataset", base), "argument", None)  # marked by `takes`
    return place if isinstance(place, Place) else None


def without_places(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What of a data set's settings identifies it: its name and options without those that say where it lies."""
    base = name.partition(":")[0]
    hidden = places(data_model(name))
    return {
        "name": name if argument_place(name) is None else base,
        "options": {key: value for key, value in options.items() if key not in hidden},
    }


def recorded_options(name: str, options: Mapping[str, Any], *, by_hand: bool = False) -> dict[str, Any]:
    """Options from a record, without those that version 0.1 wrote for every data set and this one never used.

    Args:
        by_hand: somebody may have written the record: keep values that are not the defaults, which are then refused.
    """
    model, written = data_model(name), DataOptions().model_dump(mode="json")
    unused = {
        key for key in written if key not in model.model_fields and not (by_hand and options.get(key) != written[key])
    }
    return {key: value for key, value in options.items() if key not in unused}


def data_model(name: str) -> type[Options]:
    """The options of the data set `name` (NAME or NAME:ARGUMENT)."""
    return full_options(current_registry().options("dataset", name.partition(":")[0]))

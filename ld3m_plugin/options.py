"""Options: one pydantic model for each backend, from which help, configuration files and the command line follow.

Field descriptions carry the unit and the source; ranges are pydantic constraints (`ge`, `le`, `Literal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from ld3m_plugin.errors import InvalidOptionError, UnknownOptionError, nearest, one_line
from ld3m_plugin.plain_yaml import as_written, plain


class Options(BaseModel):
    """Base of all models of options: frozen; unknown names, infinity and NaN are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False, allow_inf_nan=False)

    #: Fields that hold options of another model, which reads them later: numbers in them keep their text.
    read_later: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="wrap")
    @classmethod
    def _read(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Validate `value`; where a number is not accepted, the text that was typed may be."""
        result = _first_valid(validate, value)
        if isinstance(value, bool) and isinstance(result, int | float) and not isinstance(result, bool):
            raise ValueError(f"write a number, not {str(value).lower()}")
        return result if info.field_name in cls.read_later else plain(result)


def _first_valid(validate: ValidatorFunctionWrapHandler, value: Any) -> Any:
    """Validate `value`, else it with plain numbers, else with their text; the error is that of `value`.

    Plain numbers are for old versions of pydantic: for them a `WrittenInt` is none of a `Literal`.
    """
    try:
        return validate(value)
    except ValidationError as refused:
        for change in (plain, as_written):
            try:
                return validate(change(value))
            except ValidationError:
                continue
        raise refused from None


class GrownOptions(Options):
    """Options that gained fields: those named in `added` are left out of records where they have their default.

    Records, and the identities made of them, stay as they were where nothing new is asked for. A record without such a field
    means that default, so the default never changes.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unchanged(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        same = {
            name for name in self.added if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }
        return {name: value for name, value in serialize(self).items() if name not in same}


class RatedOptions(Options):
    """Options of a generator that say Adam's default learning rates, which are then known before the generator is built."""

    def learning_rates(self) -> dict[str, float]:
        """The rate of each learned latent, by name."""
        raise NotImplementedError(f"{type(self).__name__} says no learning rates")


#: The former name of `Options`.
BackendOptions = Options

Model = TypeVar("Model", bound=BaseModel)
Factory = TypeVar("Factory", bound=Callable[..., Any])


def build(model: type[Model], values: Mapping[str, Any], owner: str, flag: str = "") -> Model:
    """Validate `values` as `model`; a mistake becomes one line that names the owner, the option and what is allowed.

    Args:
        flag: how the command line gives an option, such as `-G`.

    Raises:
        UnknownOptionError: a name that the model does not have.
        InvalidOptionError: a value of the wrong type or outside the range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        refused = _refusal(model, error, owner, flag)
        refused.location = tuple(map(str, error.errors(include_url=False, include_context=False)[0]["loc"]))
        raise refused from error


def _refusal(
    model: type[BaseModel], error: ValidationError, owner: str, flag: str
) -> UnknownOptionError | InvalidOptionError:
    problem = error.errors(include_url=False, include_context=False)[0]
    location = tuple(part for part in problem["loc"] if isinstance(part, str))
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return UnknownOptionError(f"{owner} has no option {one_line(repr(path))}; {nearest(location[-1], known)}")
    if problem["type"] == "missing":
        field = model.model_fields.get(path)
        meaning = f" ({field.description})" if field is not None and field.description else ""
        return InvalidOptionError(
            f"{owner} needs a value for {path}{meaning}"
            + (f": give {flag} {path}=VALUE (Python: {path}=VALUE)" if flag else "")
        )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and isinstance(problem["input"], Mapping):
        # From a validator of several options: its message names them, and the input would be all of them.
        return InvalidOptionError(": ".join(part for part in (owner, path, message) if part))
    if problem["type"] in ("tuple_type", "list_type"):
        message = f"write {one_line(_as_list(problem['input']))}"
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | None):
        message = "write text, in quotes if this word is meant"
    return InvalidOptionError(f"{owner}: {path or 'value'} = {one_line(repr(problem['input']))}: {message}")


def _as_list(value: Any) -> str:
    """Write as a list what was given as text or a number; an example if that is impossible."""
    parts = str(value).strip("[]() ").replace(",", " ").split() if isinstance(value, str | int | float) else []
    return f"[{','.join(parts)}] (a list)" if parts else "a list, such as [64,96]"


def _fields_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    current: Any = model
    for part in path:
        field = current.model_fields.get(part)
        annotation = field.annotation if field is not None else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        current = annotation
    return list(current.model_fields)


@dataclass(frozen=True)
class Place:
    """Mark of an option that says where something lies: `prior: Annotated[str, Place(frozenset({"embedded"}))]`.

    Such an option does not identify a run, and may change when the run goes on: `provenance()` says by a digest what lies
    there. Options whose type is `Path` need no mark.

    Attributes:
        names: values that are names and never paths.
        is_path: whether other values may be paths, which records hold as absolute ones.
    """

    names: frozenset[str] = frozenset()
    is_path: bool = True

    def absolute(self, value: Any) -> Any:
        """`value` as plain data, with paths made absolute; text that names nothing on this disk stays as it is."""
        if isinstance(value, list | tuple):
            return [self.absolute(item) for item in value]
        if isinstance(value, Path):
            return str(_absolute(value))
        is_text = isinstance(value, str) and value and self.is_path and value not in self.names
        return str(_absolute(Path(value))) if is_text and _exists(Path(value)) else value


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # the home of an unknown user
        return path.absolute()


def _exists(path: Path) -> bool:
    try:
        return _absolute(path).exists()
    except (OSError, ValueError):  # too long for a path, or with a zero in it
        return False


def places(model: type[BaseModel]) -> dict[str, Place]:
    """The options of a model that are places.

    >>> class Reads(Options):
    ...     file: Path | None = None
    ...     size: int = 1
    >>> list(places(Reads))
    ['file']
    """
    marks = {
        name: next((mark for mark in field.metadata if isinstance(mark, Place)), Place() if _is_path(field) else None)
        for name, field in model.model_fields.items()
    }
    return {name: mark for name, mark in marks.items() if mark is not None}


def _is_path(field: Any) -> bool:
    waiting = [field.annotation]
    while waiting:
        annotation = waiting.pop()
        if isinstance(annotation, type) and issubclass(annotation, Path):
            return True
        waiting += get_args(annotation)
    return False


def recorded(options: BaseModel) -> dict[str, Any]:
    """Options as plain data for a record that is read from another folder: paths are absolute."""
    content = options.model_dump(mode="json")
    found = {name: place.absolute(getattr(options, name)) for name, place in places(type(options)).items()}
    return {**content, **{name: value for name, value in found.items() if name in content}}


def takes(model: type[Options], argument: Place | None = None) -> Callable[[Factory], Factory]:
    """Mark a function that builds a backend with the options it takes, as the class attribute `Options` does for a class.

    Args:
        argument: given for a data set whose argument, as in `NAME:ARGUMENT`, is a place.

    >>> class PerClass(Options):
    ...     per_class: int = 10
    >>> @takes(PerClass)
    ... def load(argument, options): ...
    >>> options_model(load) is PerClass
    True
    """

    def mark(factory: Factory) -> Factory:
        factory.Options = model  # type: ignore[attr-defined]
        factory.argument = argument  # type: ignore[attr-defined]
        return factory

    return mark


def options_model(factory: Any) -> type[Options] | None:
    """The options that a factory takes, or None where it does not say."""
    model = getattr(factory, "Options", None)
    return model if isinstance(model, type) and issubclass(model, Options) else None

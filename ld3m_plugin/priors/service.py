"""Training, converting and describing priors, the pre-trained models that generators render with.

Plugins register the kinds of priors. This module finds the kind, checks its options, and never overwrites what a folder holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.backends import conforming
from ld3m_plugin.errors import HostError, MissingPriorError, PluginFailedError, PriorError, UsageError, one_line
from ld3m_plugin.options import Options, build
from ld3m_plugin.priors.contract import PriorKind, TrainingReporter
from ld3m_plugin.registry import blaming, current_registry, described
from ld3m_plugin.storage import LOCK, complete_folder, locked, read_json, write_json

if TYPE_CHECKING:
    from ld3m_plugin.task import Task


def get_prior_kind(name: str) -> PriorKind:
    """Return the kind of that name.

    Raises:
        UnknownBackendError: no kind has that name; the message names the nearest ones.
        PluginLoadError: the plugin's factory does not import, or does not return a `PriorKind`.
    """
    factory = current_registry().resolve("prior", name)
    with blaming("prior", name, "its constructor"):
        made = factory()
    return conforming("prior", name, made, PriorKind)  # type: ignore[type-abstract]  # an instance of a subclass


def kind_of(path: Path, name: str | None = None) -> tuple[str, PriorKind]:
    """Return the kind of the prior at `path`, with its name: the kind `name`, or the only one that recognises `path`.

    Raises:
        PriorError: nothing is at `path`, or no kind, or more than one, recognises it.
        UsageError: no kind has that name.
    """
    if not path.exists():
        raise MissingPriorError(f"{path} does not exist: name the file or folder of a prior")
    found, problems = _recognising(path) if name is None else ({name: get_prior_kind(name)}, [])
    if len(found) == 1:
        return next(iter(found.items()))
    known = ", ".join(current_registry().names("prior")) or "none"
    if found:
        raise PriorError(f"{path} is recognised by {' and '.join(found)}: choose with --kind (known: {known})")
    more = "; ".join(["", *problems])
    raise PriorError(f"no kind of prior recognises {path}: name one with --kind (known: {known}){more}")


def check_training(name: str, out: Path, options: Mapping[str, Any]) -> tuple[PriorKind, Options]:
    """Check the arguments of a training before the data is read, which may take long; return the kind and its options.

    Raises:
        UsageError: an unknown kind or option, a value out of range, `out` holds something that no training left, cannot be
            written, or another process works there.
    """
    kind = get_prior_kind(name)
    checked = build(kind.TrainingOptions, options, f"training of prior {name!r}")
    if not _is_free(out) and _kind_of_stopped(out) != name:
        raise UsageError(
            f"{out} is not empty, and no stopped training of prior {name!r} is in it: choose another --out"
        )
    with _claimed(out):
        pass
    return kind, checked


def train_prior(
    name: str,
    task: Task,
    out: Path,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    reporter: TrainingReporter | None = None,
) -> None:
    """Train a prior of the kind `name` into `out`, or continue the training that was stopped there.

    While a training is unfinished, a hidden file beside `out` says so. A folder that holds anything else is never written to.

    Args:
        task: the data, with its test set for the quality report.
        options: values for the kind's `TrainingOptions`.

    Raises:
        UsageError: see `check_training`.
        HostError: the training failed, or the stopped one had other settings.
    """
    with _claimed(out):
        kind, checked = check_training(name, out, options or {})
        write_json(_note(out), {"kind": name})
        try:
            with blaming("prior", name, "train"):
                kind.train(task, out, checked, seed=seed, reporter=reporter or TrainingReporter())
        except BaseException:
            if _is_free(out):
                _note(out).unlink(missing_ok=True)
            raise
        _note(out).unlink(missing_ok=True)


def convert_prior(source: Path, out: Path, options: Mapping[str, Any] | None = None, *, kind: str | None = None) -> str:
    """Convert a published file or folder into the prior folder `out`, and return the kind's name.

    `out` appears only when it is complete.

    Raises:
        UsageError: an unknown kind or option, or `out` is not empty.
        PriorError: no kind, or more than one, recognises the source, or it is damaged.
    """
    name, converter = kind_of(source, kind)
    checked = build(converter.ConversionOptions, options or {}, f"conversion to prior {name!r}")
    with _claimed(out):
        if not _is_free(out):
            raise UsageError(f"{out} is not empty: choose another folder to write to")
        _note(out).unlink(missing_ok=True)  # left by a training whose folder was deleted
        with complete_folder(out) as folder, blaming("prior", name, "convert"):
            converter.convert(source, folder, checked)
    return name


def describe_prior(path: Path, *, kind: str | None = None) -> dict[str, str]:
    """Return facts of a prior by title, its kind first.

    Raises:
        PriorError: no kind, or more than one, recognises it, or it is damaged.
    """
    path = _by_name(path)
    name, found = kind_of(path, kind)
    with blaming("prior", name, "describe"):
        facts = found.describe(path)
    if not isinstance(facts, dict) or not all(isinstance(text, str) for item in facts.items() for text in item):
        raise PluginFailedError(
            f"{described('prior', name)}: describe gave {one_line(repr(facts))}, not texts by title"
        )
    return {"kind": name, **facts}


def _by_name(path: Path) -> Path:
    """Return `path` if it exists, else the folder of the prior that a kind knows by that name, such as `embedded`."""
    if path.exists():
        return path
    for name in current_registry().names("prior"):
        with suppress(Exception):  # a plugin's kind may raise anything; the others are still asked
            if (found := get_prior_kind(name).find(str(path))) is not None:
                return found
    return path


def _recognising(path: Path) -> tuple[dict[str, PriorKind], list[str]]:
    """Return the kinds that recognise `path`, by name, and the errors of kinds that could not be asked."""
    found, problems = {}, []
    for name in current_registry().names("prior"):
        try:
            kind = get_prior_kind(name)
            if kind.recognises(path):
                found[name] = kind
        except HostError as error:
            problems.append(str(error))
        except Exception as error:  # a plugin's kind may raise anything; the others are still asked
            problems.append(f"{name} raised {type(error).__name__}: {one_line(str(error))}")
    return found, problems


def _kind_of_stopped(out: Path) -> str | None:
    """Return the name of the kind whose training was stopped in `out`, or None."""
    try:
        return str(read_json(_note(out), PriorError)["kind"])
    except (PriorError, TypeError, KeyError):
        return None


def _note(out: Path) -> Path:
    # Beside and not inside: the folder belongs to the kind, which may replace it as a whole.
    return out.with_name(f".{out.name}.training.json")


def _claimed(out: Path) -> AbstractContextManager[None]:
    """Lock `out` for this process, or for the first of the processes that a launcher (`accelerate launch`) started together."""
    _check_name(out)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return locked(out.with_name(f".{out.name}{LOCK}"), out, "choose another folder")


def _check_name(out: Path) -> None:
    if out.name in ("", ".."):
        raise UsageError(f"{out} is not the name of a folder: name a new or empty one")


def _is_free(out: Path) -> bool:
    """Whether `out` is missing or an empty folder; raises `UsageError` for "." and "/", which cannot be replaced by a folder."""
    _check_name(out)
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))

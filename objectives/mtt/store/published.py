"""Reading the expert buffers of the MTT and GLaD repositories: `replay_buffer_*.pt`.

Such a file is a list of experts, each a list of snapshots (before training and after every epoch), each a list of parameters
in the order of `module.parameters()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count, filterfalse
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from ld3m_plugin.contracts import Task, TrainingReporter
from ld3m_plugin.data.safe_torch import load_tensors
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store.expert_files import as_stored, digests_of
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.fitting import what_fits
from ld3m_plugin.objectives.mtt.store.store_folder import Store, store_of
from ld3m_plugin.objectives.mtt.store.store_format import reason
from ld3m_plugin.storage import LOCK, locked

_PATTERN = "replay_buffer_*.pt"
#: Smaller numbers cannot hold trained weights.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _dense(parameter: Tensor) -> Tensor:
    """Raise `ValueError` if the tensor is not dense, not floating-point, or without values (on the meta device)."""
    strided = not parameter.is_nested and parameter.layout == torch.strided
    if not strided or parameter.dtype not in _FLOATS or parameter.device.type != "cpu":
        kind = f"{'nested' if parameter.is_nested else parameter.layout}, {parameter.dtype}, on {parameter.device}"
        raise ValueError(f"not a dense floating-point tensor with values ({kind})")
    return parameter


_SOME = Field(min_length=1)
_Snapshot = Annotated[Sequence[Annotated[Tensor, AfterValidator(_dense)]], _SOME]
_Expert = Annotated[Sequence[_Snapshot], _SOME]
_BUFFER = TypeAdapter(Annotated[Sequence[_Expert], _SOME], config=ConfigDict(arbitrary_types_allowed=True, strict=True))


def import_experts(
    root: Path,
    task: Task,
    options: TrainingOptions,
    sources: Sequence[Path],
    *,
    reporter: TrainingReporter | None = None,
) -> tuple[Path, int, int]:
    """Copy the experts of published buffers into the store of `options`, under the next free numbers.

    Shapes are verified; the other settings are taken as given. Experts that are stored already are skipped, so that the same
    command goes on where it was stopped.

    Args:
        sources: files, and folders of `replay_buffer_*.pt`.

    Returns:
        The folder, how many experts were copied, and how many were there before.

    Raises:
        ExpertError: a file is missing, damaged, asks for code, has other content or other shapes, snapshots that are equal, or
            values that are not finite. Experts before it are kept.
        UsageError: a folder has no such files, the store's experts have another dtype, the root is a file, or the network
            has batch norm.
    """
    store = store_of(root, task, options.settings())
    store.check(options.dtype)
    files = buffer_files(sources)
    # Two imports at once would give different experts the same numbers.
    with locked(store.folder.with_name(f".{store.key}{LOCK}"), store.folder, "give another --root"):
        return store.folder, *_copy(store, files, options, reporter or TrainingReporter())


def _copy(store: Store, files: Sequence[Path], options: TrainingOptions, reporter: TrainingReporter) -> tuple[int, int]:
    headers = store.headers()
    known = {header.digests for header in headers.values()}
    free = filterfalse(headers.__contains__, count())
    copied = there = 0
    reporter.phase("import", len(files))
    for index, file in enumerate(files):
        for rows in _experts_in(file, store, options):
            digests = digests_of(rows)
            if digests in known:
                there += 1
                continue
            known.add(digests)
            copied += 1
            store.prepare(len(headers) + copied, 0, options.dtype)  # not earlier: a refused first file leaves nothing
            store.add(next(free), rows, imported_from=file.name)
        reporter.step(index + 1, {"experts": float(copied)})
    return copied, there


def buffer_files(sources: Sequence[Path]) -> list[Path]:
    """List the named files, and those in the named folders in the order of their numbers.

    Raises:
        UsageError: a folder has none.
        ExpertError: a file does not exist.
    """
    files: list[Path] = []
    for source in sources:
        found = sorted(source.glob(_PATTERN), key=_by_number) if source.is_dir() else [source]
        if not found:
            raise UsageError(f"no {_PATTERN} is in {source}: name the folder that holds them, or the files")
        if missing := [path for path in found if not path.is_file()]:
            raise ExpertError(f"{missing[0]} does not exist: name a {_PATTERN} file or a folder of them")
        files += found
    return list(dict.fromkeys(files))


def _by_number(path: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\.pt$", path.name)
    return (int(number[1]) if number else 0, path.name)


def _experts_in(file: Path, store: Store, options: TrainingOptions) -> Iterator[Tensor]:
    """Yield the rows (epochs, P) of every expert in a file, in the stored dtype."""
    content = load_tensors(file, ExpertError, what="buffer", needed_for="the weights of experts", mapped=True)
    try:
        experts = _BUFFER.validate_python(content)
    except ValidationError as error:
        raise ExpertError(
            f"{file} is not a list of experts, each a list of epochs, each a list of tensors ({reason(error)}): name a "
            f"{_PATTERN} of the MTT or GLaD code"
        ) from error
    for index, expert in enumerate(experts):
        where = f"expert {index} of {file}"
        for snapshot in expert:
            _check_shapes(where, snapshot, store)
        _check_storage(where, expert)
        yield _as_rows(where, expert, options)


def _as_rows(where: str, expert: _Expert, options: TrainingOptions) -> Tensor:
    kept = expert if options.keep_epochs is None else expert[: options.keep_epochs + 1]
    rows = torch.stack(
        [torch.cat([parameter.detach().reshape(-1).float() for parameter in snapshot]) for snapshot in kept]
    )
    if len(rows) < 2:
        raise ExpertError(f"{where} has one snapshot: a trajectory needs at least two")
    names = [f"{where} at epoch {epoch}" for epoch in range(len(rows))]
    stored = as_stored(rows, options.dtype, names, "save the buffer without this expert, or leave the file out")
    same = (rows[1:] == rows[:-1]).all(1)
    if bool(same.any()):
        epoch = int(same.nonzero()[0])
        raise _aliased(where, f"its snapshots of epochs {epoch} and {epoch + 1} are equal")
    return stored


def _check_shapes(where: str, snapshot: _Snapshot, store: Store) -> None:
    found = [tuple(parameter.shape) for parameter in snapshot]
    network = f"network {store.settings.network!r} for this data"
    for (name, shape), there in zip(store.shapes, found, strict=False):
        if shape != there:
            raise ExpertError(
                f"{where}: parameter {name} is {there} there and {shape} in {network}; {what_fits(found, store.task)}"
            )
    if len(found) != len(store.shapes):
        raise ExpertError(
            f"{where} has {len(found)} parameters and {network} has {len(store.shapes)}; {what_fits(found, store.task)}"
        )


def _check_storage(where: str, expert: _Expert) -> None:
    """Reject snapshots that share memory: on a CPU, the published code copied nothing, so that all are the last one."""
    seen: set[int] = set()
    for snapshot in expert:
        places = {parameter.data_ptr() for parameter in snapshot if parameter.numel()}
        if places & seen:
            raise _aliased(where, "its snapshots share their memory")
        seen |= places


def _aliased(where: str, why: str) -> ExpertError:
    return ExpertError(
        f"{where}: {why}, as in buffers made on a CPU without copying, which hold the final weights only: train experts "
        "again with `ld3m experts train`"
    )

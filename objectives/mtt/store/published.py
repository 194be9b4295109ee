"""Reading the expert buffers of the MTT and GLaD repositories: `replay_buffer_*.pt`.

Such a file is a list of experts, each a list of snapshots (before training and after every epoch), each a list of parameters
in the order of `module.parameters()`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.contracts import Task, TrainingReporter
from ld3m_plugin.data.safe_torch import load_tensors
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.mtt.store.expert_files import DTYPES, Header, digests_of, write_expert
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.fitting import what_fits
from ld3m_plugin.objectives.mtt.store.store_folder import Store, store_of
from ld3m_plugin.objectives.mtt.store.store_identity import decisive

_PATTERN = "replay_buffer_*.pt"


def import_experts(
    root: Path,
    task: Task,
    options: TrainingOptions,
    sources: Sequence[Path],
    *,
    reporter: TrainingReporter | None = None,
) -> tuple[Path, int, int]:
    """Copy the experts of published buffers into the store of `options`, under the next free numbers.

    Whether they were trained with these settings cannot be seen from weights: that is the caller's word. An expert that is
    there already is left out, so that the same command goes on where it was stopped.

    Args:
        sources: files, and folders of `replay_buffer_*.pt`.

    Returns:
        The folder, how many were copied, and how many were there.

    Raises:
        ExpertError: a file is missing, damaged, asks for code, holds something else, other shapes, snapshots that are one and
            the same, or values that are not finite. What came before it stays.
        UsageError: a folder without such files, experts of another dtype are there, the root is a file, or the network has
            batch norm.
    """
    store = store_of(root, task, options.settings())
    store.check(options.dtype)
    files = buffer_files(sources)
    for file in files:
        if not file.is_file():
            raise ExpertError(f"{file} does not exist: name a {_PATTERN} file or a folder of them")
    known = {header.digests: number for number, header in store.headers().items()}
    taken, copied, there = set(known.values()), 0, 0
    told = reporter or TrainingReporter()
    told.phase("import", len(files))
    for index, file in enumerate(files):
        for rows in _experts_in(file, store, options):
            digests = digests_of(rows)
            if digests in known:
                there += 1
                continue
            store.prepare(len(known) + 1, 0, options.dtype)  # here: a first file that is refused leaves nothing
            known[digests] = _next_free(taken)
            _write(store, known[digests], rows, digests, file, options)
            copied += 1
        told.step(index + 1, {"experts": float(copied)})
    return store.folder, copied, there


def buffer_files(sources: Sequence[Path]) -> list[Path]:
    """The files that are named, and those of the folders that are named, in the order of their numbers.

    Raises:
        UsageError: a folder without any.
    """
    files: list[Path] = []
    for source in sources:
        found = sorted(source.glob(_PATTERN), key=_by_number) if source.is_dir() else [source]
        if not found:
            raise UsageError(f"no {_PATTERN} is in {source}: name the folder that holds them, or the files")
        files += found
    return list(dict.fromkeys(files))


def _by_number(path: Path) -> tuple[int, str]:
    number = re.search(r"(\d+)\.pt$", path.name)
    return (int(number[1]) if number else 0, path.name)


def _experts_in(file: Path, store: Store, options: TrainingOptions) -> Iterator[Tensor]:
    """Rows (epochs, P) of every expert in a file, in the dtype that is stored."""
    content = load_tensors(file, ExpertError, what="buffer", needed_for="the weights of experts", mapped=True)
    _check_list(file, "it", content)
    for index, expert in enumerate(content):
        where = f"expert {index} of {file}"
        _check_list(file, f"expert {index}", expert)
        for epoch, snapshot in enumerate(expert):
            _check_list(file, f"epoch {epoch} of expert {index}", snapshot)
            for number, parameter in enumerate(snapshot):
                if not isinstance(parameter, Tensor):
                    raise _not_a_buffer(file, f"expert {index} holds something else than tensors")
                _check_plain(f"parameter {number} at epoch {epoch} of {where}", parameter)
            _check_shapes(where, snapshot, store)
        _check_storage(where, expert)
        yield _as_rows(where, expert, options)


def _as_rows(where: str, expert: Sequence[Sequence[Tensor]], options: TrainingOptions) -> Tensor:
    kept = expert if options.keep_epochs is None else expert[: options.keep_epochs + 1]
    rows = torch.stack(
        [torch.cat([parameter.detach().reshape(-1).float() for parameter in snapshot]) for snapshot in kept]
    )
    if len(rows) < 2:
        raise ExpertError(f"{where} has one snapshot: a trajectory needs at least two")
    if (epoch := _not_finite(rows)) is not None:
        raise ExpertError(
            f"{where} has weights that are not finite at epoch {epoch}: it did not train. Save the buffer without it, or leave "
            "the file out"
        )
    same = (rows[1:] == rows[:-1]).all(1)
    if bool(same.any()):
        epoch = int(same.nonzero()[0])
        raise _aliased(where, f"its snapshots of epochs {epoch} and {epoch + 1} are equal")
    stored = rows.to(DTYPES[options.dtype])
    if (epoch := _not_finite(stored)) is not None:
        raise ExpertError(
            f"{where} has weights at epoch {epoch} that are too large for {options.dtype}: leave -S dtype out"
        )
    return stored


def _not_finite(rows: Tensor) -> int | None:
    """The first row (of epochs, P) that is not all finite."""
    bad = (~torch.isfinite(rows)).any(1).nonzero()
    return int(bad[0]) if len(bad) else None


#: Smaller kinds of numbers hold no trained weights.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _check_plain(where: str, parameter: Tensor) -> None:
    if parameter.is_nested or parameter.layout != torch.strided:
        kind = "nested" if parameter.is_nested else f"of layout {parameter.layout}"
    elif parameter.dtype not in _FLOATS:
        kind = f"of dtype {parameter.dtype}"
    elif parameter.device.type != "cpu":
        kind = "without values (on the meta device)"
    else:
        return
    raise ExpertError(
        f"{where} is {kind}: weights of experts are dense floating-point tensors, save the buffer with such"
    )


def _check_shapes(where: str, snapshot: Sequence[Tensor], store: Store) -> None:
    found = [tuple(parameter.shape) for parameter in snapshot]
    expected = store.shapes
    network = f"network {store.settings.network!r} for this data"
    for (name, shape), there in zip(expected, found, strict=False):
        if shape != there:
            raise ExpertError(
                f"{where}: parameter {name} is {there} there and {shape} in {network}; {what_fits(found, store.task)}"
            )
    if len(found) != len(expected):
        raise ExpertError(
            f"{where} has {len(found)} parameters and {network} has {len(expected)}; {what_fits(found, store.task)}"
        )


def _check_storage(where: str, expert: Sequence[Sequence[Tensor]]) -> None:
    """Snapshots that share memory are the last one many times: on the CPU, the published code took no copies."""
    seen: set[int] = set()
    for snapshot in expert:
        places = {parameter.data_ptr() for parameter in snapshot if parameter.numel()}
        if places & seen:
            raise _aliased(where, "its snapshots share their memory")
        seen |= places


def _aliased(where: str, why: str) -> ExpertError:
    return ExpertError(
        f"{where}: {why}, as buffers are that were made on a CPU without copying: it holds the final weights alone. "
        "Train experts anew with `ld3m experts train`"
    )


def _not_a_buffer(file: Path, why: str) -> ExpertError:
    return ExpertError(f"{file} is not a buffer of experts ({why}): name a {_PATTERN} of the MTT or GLaD code")


def _check_list(file: Path, what: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise _not_a_buffer(file, f"{what} is of type {type(value).__name__} and not a list")
    if not value:
        raise _not_a_buffer(file, f"{what} is empty")


def _next_free(taken: set[int]) -> int:
    number = 0
    while number in taken:
        number += 1
    taken.add(number)
    return number


def _write(
    store: Store, number: int, rows: Tensor, digests: tuple[str, ...], file: Path, options: TrainingOptions
) -> None:
    header = Header(
        key=store.key,
        settings=decisive(store.task, store.settings),
        expert=number,
        seed=options.seed,
        epochs=tuple(range(len(rows))),
        parameters=store.shapes,
        dtype=options.dtype,
        losses=(),
        imported=True,
        source=file.name,
        digests=digests,
    )
    write_expert(store.folder, header, rows)

"""`ld3m bench`: speed and memory of this installation, alone or in turns with another worktree."""

from __future__ import annotations

import datetime
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ld3m_plugin.cli import flags
from ld3m_plugin.cli.common import check_name, orderly_end, prepare_process, say
from ld3m_plugin.cli.tables import print_columns
from ld3m_plugin.errors import HostError

if TYPE_CHECKING:
    from ld3m_plugin.bench.bench_cases import Case
    from ld3m_plugin.bench.bench_record import Record
    from ld3m_plugin.bench.turns import Setting


def bench_command(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PATTERN", help="Cases to run, such as 'ld3m/*'; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Measured runs of each case.")] = 3,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="WORKTREE", help="Run the sources in that folder in turns with these."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the record as JSON.")
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--read", metavar="FILE", help="Print the table of such a record; measure nothing.")
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the cases and run none.")] = False,
    size: Annotated[int, typer.Option("--size", help="Images: 32 (embedded, gray) or 128 (random, colour).")] = 32,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="At 128: priors of the published layouts with random weights.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads of each process.")] = 1,
    device: flags.Device = None,
) -> None:
    """Measure speed and memory: steps of every pair, evaluation, experts, growth; each case in a process of its own.

    Compare processor seconds and not wall seconds where other work runs on the machine. Memory is that of the process when
    the case is built, and its growth from then on; on CUDA, the growth is that of the device's tensors.

    Example: ld3m bench --only 'pixel/*' --against ../older
    """
    from ld3m_plugin.bench.bench_cases import plan
    from ld3m_plugin.bench.bench_record import read_record
    from ld3m_plugin.bench.worktree import check_worktree
    from ld3m_plugin.storage import check_writable

    check_name(json_file)
    if read is not None:
        _print(read_record(read), as_markdown)
        return
    cases = plan(size, full_size, only or ())
    if listed:
        print_columns([(case.name, case.what) for case in cases])
        return
    other = None if against is None else check_worktree(against)
    if json_file is not None:
        check_writable(json_file.resolve().parent, "give another --json")
    prepare_process()
    with orderly_end(lambda: say("stopped" + (f"; {json_file} has what was measured" if json_file else ""), err=True)):
        from ld3m_plugin.bench.bench_record import AGAINST, THIS
        from ld3m_plugin.bench.turns import Setting
        from ld3m_plugin.distillation.loop import choose_device

        trees = {THIS: None, **({} if other is None else {AGAINST: other})}
        with tempfile.TemporaryDirectory(prefix="ld3m-bench-") as scratch:
            setting = Setting(trees, rounds, str(choose_device(device or "auto")), threads, Path(scratch))
            record = _measured(cases, setting, json_file, size, full_size)
    _print(record, as_markdown)
    _check_complete(record, cases)


def _measured(cases: list[Case], setting: Setting, out: Path | None, size: int, full_size: bool) -> Record:
    """Measure case by case; the file holds what is measured so far."""
    from ld3m_plugin.bench.bench_record import CaseResult, Record, machine
    from ld3m_plugin.bench.turns import make_prior, measure
    from ld3m_plugin.bench.worktree import describe
    from ld3m_plugin.storage import versions, write_json

    here = Path(__file__).resolve().parents[2]
    record = Record(
        date=str(datetime.datetime.now(datetime.UTC).date()),
        machine=machine(setting.device),
        versions=versions(),
        trees={name: describe(tree or here) for name, tree in setting.trees.items()},
        **{"rounds": setting.rounds, "threads": setting.threads, "device": setting.device},
        **{"size": size, "full_size": full_size, "cases": []},
    )
    for number, case in enumerate(cases, 1):
        say(f"{number} of {len(cases)}: {case.name}", err=True)
        if case.prior is not None and (problem := make_prior(case.prior, case, setting)):
            raise HostError(f"the prior {case.prior} of case {case.name} could not be made: {problem}")
        record.cases.append(CaseResult(name=case.name, what=case.what, measured=measure(case, setting)))
        if out is not None:
            write_json(out, json.loads(record.model_dump_json()))
    return record


def _print(record: Record, as_markdown: bool) -> None:
    from ld3m_plugin.bench.bench_tables import headline, markdown, table

    titles, rows = table(record)
    for line in headline(record):
        say(line, err=False)
    typer.echo()
    if as_markdown:
        typer.echo(markdown(titles, rows))
    else:
        print_columns(rows, titles)


def _check_complete(record: Record, cases: list[Case]) -> None:
    """Raise `HostError` if a case failed, or one that every installation can run was refused."""
    optional = {case.name for case in cases if case.optional}
    for result in record.cases:
        for tree, measured in result.measured.items():
            if measured.problem and not (measured.refused and result.name in optional):
                raise HostError(f"case {result.name} was not measured in {tree} tree: {measured.problem}")

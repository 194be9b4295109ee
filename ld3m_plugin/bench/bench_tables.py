"""A record as a table of text, for a terminal or for a document."""

from __future__ import annotations

from collections.abc import Sequence

from ld3m_plugin.bench.bench_record import (
    AGAINST,
    THIS,
    CaseResult,
    Record,
    cpu_seconds,
    growth,
    system_seconds,
    wall_seconds,
)
from ld3m_plugin.bench.turns import Measured

Table = tuple[list[str], list[list[str]]]


def table(record: Record) -> Table:
    """Titles of the columns, and a row for each case."""
    return _two_trees(record) if AGAINST in record.trees else _one_tree(record)


def headline(record: Record) -> list[str]:
    """Where and how it was measured, in lines."""
    machine, versions = record.machine, record.versions
    trees = ", ".join(f"{name} tree: {tree_name(record, name)}" for name in record.trees)
    memory = f", {machine['memory_gib']} GiB" if "memory_gib" in machine else ""
    what = f"{record.size}x{record.size}" + (", full-size priors" if record.full_size else "")
    return [
        f"{record.date}: {machine['cores']} cores {machine['processor']} ({machine['machine']}, {machine['system']}){memory}, "
        f"device {machine['device']}, load {machine['load']}",
        f"Python {machine['python']}, torch {versions.get('torch', '?')}; {record.threads} thread(s) a process, medians of "
        f"{record.rounds} round(s) after one to warm up; {what}; {trees}",
    ]


def tree_name(record: Record, name: str) -> str:
    """The commit of a tree, marked where its sources were changed since; the tree's name where none is known."""
    about = record.trees[name]
    return f"{about['commit']}{'+' if about['changed'] else ''}" if about else name


def _one_tree(record: Record) -> Table:
    titles = ["case", "CPU s", "of it system", "wall s", "built MiB", "growth MiB"]
    return titles, [[case.name, *_cells(case.measured[THIS])] for case in record.cases]


def _cells(measured: Measured) -> list[str]:
    if not _is_whole(measured):
        return [_why(measured), "", "", "", ""]
    return [
        f"{cpu_seconds(measured):.3f}",
        f"{system_seconds(measured):.2f}",
        f"{wall_seconds(measured):.3f}",
        f"{measured.built:.0f}",
        f"{growth(measured):.0f}",
    ]


def _two_trees(record: Record) -> Table:
    other, this = (tree_name(record, name) for name in (AGAINST, THIS))
    titles = ["case", f"CPU s {other}", this, "ratio", "of single rounds", "wall ratio"]
    titles += [f"growth MiB {other}", this, "ratio"]
    return titles, [[case.name, *_pair(case)] for case in record.cases]


def _pair(case: CaseResult) -> list[str]:
    pair = [case.measured[AGAINST], case.measured[THIS]]
    seconds = [f"{cpu_seconds(one):.3f}" if _is_whole(one) else _why(one) for one in pair]
    memory = [f"{growth(one):.0f}" if _is_whole(one) else "" for one in pair]
    ratios = case.ratios
    spread = f"{ratios['cpu_least']:.2f} to {ratios['cpu_most']:.2f}" if ratios else ""
    return [*seconds, _ratio(ratios, "cpu"), spread, _ratio(ratios, "wall"), *memory, _ratio(ratios, "growth")]


def _ratio(ratios: dict[str, float], name: str) -> str:
    return f"{ratios[name]:.2f}" if name in ratios else ""


def _is_whole(measured: Measured) -> bool:
    """Whether every round ran: a process may fail in a later one."""
    return bool(measured.rounds) and not measured.problem


def _why(measured: Measured) -> str:
    text = measured.problem or "not run"
    return text if len(text) <= 60 else f"{text[:57]}..."


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of a Markdown document: the first column to the left, numbers to the right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

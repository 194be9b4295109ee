"""The summary of a grid as files: `table.csv` and `table.json` for programs, `table.md` and `table.tex` to be read.

CSV and JSON hold every number at full precision. The other two and the terminal show what fits a page: means and deviations,
rounded to a decimal, without columns that no row fills. What is not known is an empty cell (null in JSON), never a number. The
same summary gives the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ld3m_plugin.comparison.paired import Estimate
from ld3m_plugin.comparison.seed_results import AVERAGES
from ld3m_plugin.comparison.summary import Difference, Statistic, Summary, SummaryRow
from ld3m_plugin.errors import one_line
from ld3m_plugin.storage import write_json, write_text

TABLES = ("table.csv", "table.json", "table.md", "table.tex")
#: Follows a difference whose corrected p value is below the level.
MARK = "*"
#: The first columns of a table; what a setting varies follows.
NAMES = {
    "generator": "generator",
    "objective": "objective",
    "data": "data",
    "images_per_class": "images per class",
    "numbers_per_class": "numbers per class",
    "start": "start",
}
_TEXT = {"generator", "objective", "data", "start"}
_COSTS = {"seconds_per_step": "seconds a step", "seconds": "seconds", "peak_memory": "peak memory MiB"}
_STATISTIC = ("mean", "std", "n", "diverged")
#: Characters that Markdown reads as more than themselves in a cell.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#])")
#: What is left after pandas has escaped a table. `<` is another letter in TeX's first fonts; `[` and `*` after a row's end are
#: read as arguments of the line break.
_LATEX = {"±": r"$\\pm$", "<": r"$<$", ">": r"$>$", r"(?<=[ \[])-(?=\d)": "$-$", r"^(?=[\[*])": "{}"}


@dataclass(frozen=True)
class Table:
    """The table as it is shown: `cli.tables.print_columns(table.rows, table.titles)` prints it.

    Attributes:
        note: what numbers, intervals and marks mean: one line.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def write_tables(summary: Summary, folder: Path) -> None:
    """Write `TABLES` into `folder`, which exists; older ones are replaced, each in one move."""
    table = shown(summary)
    write_text(folder / "table.csv", _csv(summary))
    write_json(folder / "table.json", record(summary))
    write_text(folder / "table.md", _markdown(table))
    write_text(folder / "table.tex", _latex(table))


def shown(summary: Summary) -> Table:
    """Lay out a summary for a page or a terminal."""
    lines = [_line(summary, row) for row in summary.rows]
    titles = [
        title for title in dict.fromkeys(t for line in lines for t in line) if any(line.get(title) for line in lines)
    ]
    return Table(tuple(titles), tuple(tuple(line.get(title, "") for title in titles) for line in lines), _note(summary))


def record(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain data, for JSON."""
    return {
        "note": _note(summary),
        "baseline": dict(summary.baseline),
        "level": summary.level,
        "questions": summary.questions,
        "rows": [
            {
                **{name: getattr(row, name) for name in NAMES},
                "settings": dict(row.settings),
                "seeds": list(row.seeds),
                "is_baseline": row.is_baseline,
                "networks": {name: asdict(statistic) for name, statistic in row.networks.items()},
                **{measure: _plain(row.averages.get(measure)) for measure in AVERAGES},
                "differences": {measure: _difference(found) for measure, found in row.differences.items()},
                **{name: getattr(row, name) for name in _COSTS},
            }
            for row in summary.rows
        ],
    }


def _plain(statistic: Statistic | None) -> dict[str, Any] | None:
    return None if statistic is None else asdict(statistic)


def _difference(found: Difference) -> dict[str, Any]:
    """Numbers of a difference by name."""
    low, high = found.interval or (None, None)
    all_low, all_high = found.simultaneous or (None, None)
    return {
        "mean": found.estimate.mean,
        "std": found.estimate.std,
        "n": found.estimate.n,
        "low": low,
        "high": high,
        "simultaneous_low": all_low,
        "simultaneous_high": all_high,
        "interval_over_test_images": found.estimate.has_images if found.interval else None,
        "p": found.p,
        "corrected_p": found.corrected_p,
        "marked": found.marked,
        "seeds_for_a_point": found.seeds_for_a_point,
    }


def _csv(summary: Summary) -> str:
    """One line a row; the same columns whatever is known, so that tables of two grids can be put together."""
    import pandas as pd

    difference = _difference(Difference(Estimate(0.0, None, 0, (), has_images=False)))
    lines = []
    for row in summary.rows:
        line = {name: getattr(row, name) for name in NAMES}
        line |= {path: row.settings.get(path) for path in summary.settings}
        line |= {"n": len(row.seeds), "seeds": " ".join(map(str, row.seeds)), "is_baseline": row.is_baseline}
        for name in (*summary.networks, *AVERAGES):
            found = row.networks.get(name) or row.averages.get(name)
            line |= {f"{name} {part}": getattr(found, part, None) for part in _STATISTIC}
        for measure in summary.measures:
            numbers = _difference(row.differences[measure]) if measure in row.differences else {}
            line |= {f"{measure} difference {part}": numbers.get(part) for part in difference}
        lines.append(line | {name: getattr(row, name) for name in _COSTS})
    # As objects: whole numbers stay whole beside an empty cell.
    return pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")


def _line(summary: Summary, row: SummaryRow) -> dict[str, str]:
    """Text of each column of a row, by title."""
    seeds = len(row.seeds)
    cells = {title: _text(getattr(row, name)) for name, title in NAMES.items()}
    cells |= {one_line(path): _text(row.settings.get(path)) for path in summary.settings}
    cells["n"] = str(seeds)
    cells |= {one_line(name): _mean(row.networks.get(name), seeds) for name in summary.networks}
    cells |= {measure: _mean(row.averages.get(measure), seeds) for measure in AVERAGES}
    for measure in summary.measures:
        found = row.differences.get(measure)
        cells[f"{one_line(measure)} - baseline"] = "baseline" if row.is_baseline else _interval(found)
        cells[f"p ({one_line(measure)})"] = _p(found)
        cells[f"seeds for 1 point ({one_line(measure)})"] = _text(found.seeds_for_a_point if found else None)
    return cells | {title: _number(getattr(row, name), name) for name, title in _COSTS.items()}


def _text(value: Any) -> str:
    return "" if value is None else one_line(str(value))


def _mean(statistic: Statistic | None, seeds: int) -> str:
    """`71.2 ± 0.4`; with its own n where that is not the row's, and how many networks diverged where some did."""
    if statistic is None:
        return ""
    spread = "" if statistic.std is None else f" ± {statistic.std:.1f}"
    more = [f"n={statistic.n}"] if statistic.n != seeds else []
    more += [f"{statistic.diverged} diverged"] if statistic.diverged else []
    return f"{statistic.mean:.1f}{spread}" + (f" ({', '.join(more)})" if more else "")


def _interval(found: Difference | None) -> str:
    """`+1.2 [0.3, 2.1]*`; without an interval the number of seeds."""
    if found is None:
        return ""
    interval = f"[{found.interval[0]:+.1f}, {found.interval[1]:+.1f}]" if found.interval else f"(n={found.estimate.n})"
    return f"{found.estimate.mean:+.1f} {interval}{MARK if found.marked else ''}"


def _p(found: Difference | None) -> str:
    if found is None or found.corrected_p is None:
        return ""
    return "<0.001" if found.corrected_p < 0.001 else f"{found.corrected_p:.3f}"


def _number(value: float | None, name: str) -> str:
    return "" if value is None else f"{value:.{3 if name == 'seconds_per_step' else 0}f}"


def _note(summary: Summary) -> str:
    """Say what the numbers are: one line."""
    said = (
        "Test accuracy in %, mean ± standard deviation (divisor n - 1) over n seeds of the distillation. seen, unseen: mean over "
        "architectures that the distillation used, and over the others; gap: unseen - seen; average: over all."
    )
    if not summary.baseline:
        return said
    named = one_line(", ".join(f"{name} {value}" for name, value in summary.baseline.items()))
    over = {d.estimate.has_images for row in summary.rows for d in row.differences.values() if d.interval}
    resampled = {
        frozenset({True}): "over seeds and test images",
        frozenset({False}): "over seeds alone, for these test images",
    }.get(frozenset(over), "over seeds, and over test images where they are known")
    return (
        f"{said} Differences to the baseline ({named}) are in percentage points, paired by seed, each with its own "
        f"{100 * (1 - summary.level):g} % interval {resampled}. p is corrected for {summary.questions} questions (Holm); "
        f"{MARK} marks corrected p < {summary.level:g}. A single seed is not tested."
    )


def _markdown(table: Table) -> str:
    lines = [[_MARKDOWN.sub(r"\\\1", cell) for cell in cells] for cells in (table.titles, *table.rows)]
    lines.insert(1, ["---" if title in _TEXT else "---:" for title in table.titles])
    rows = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([*rows, "", _MARKDOWN.sub(r"\\\1", table.note), ""])


def _latex(table: Table) -> str:
    """A tabular of the package booktabs, to be put into a document with \\input."""
    import pandas as pd

    style = pd.DataFrame(list(table.rows), columns=list(table.titles), dtype=object).style
    style = style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    columns = "".join("l" if title in _TEXT else "r" for title in table.titles)
    body = style.to_latex(hrules=True, column_format=columns)
    for pattern, symbol in _LATEX.items():
        body = re.sub(pattern, symbol, body, flags=re.MULTILINE)
    return f"% needs \\usepackage{{booktabs}}\n% {table.note}\n{body}"

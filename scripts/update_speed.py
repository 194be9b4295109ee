"""Rewrite the tables of docs/speed.md from docs/speed.json. A test compares them.

usage: ld3m bench --against WORKTREE --json docs/speed.json     # WORKTREE at commit ecc6036
       python scripts/update_speed.py
"""

import re
from pathlib import Path

from ld3m_plugin.bench.bench_record import AGAINST, Record, read_record
from ld3m_plugin.bench.bench_tables import headline, markdown, table

DOCS = Path(__file__).resolve().parent.parent / "docs"
#: The version that was measured in turns with the official code.
QUOTED_COMMIT = "ecc6036"
#: Case -> processor seconds of the official code over those of that version, and the growth of both in MiB (None: not measured).
QUOTED: dict[str, tuple[float, int | None, int | None]] = {
    "ld3m/graph": (2.54, 136, 1192),
    "ld3m/checkpoint": (1.75, 136, 520),
    "pixel/dm-256": (1.52, 431, 3851),
    "pixel/dc": (1.92, None, None),
    "pixel/mtt": (0.99, 984, 178),
    "evaluation/ConvNet": (1.86, None, None),
    "experts/update": (1.93, None, None),
    "stylegan-xl/32": (3.34, 1022, 298),
    "stylegan-xl/64": (3.86, 1649, 441),
}


def measured(record: Record) -> str:
    """Where it was measured, and the table."""
    return "\n".join([*(f"{line}  " for line in headline(record)), "", markdown(*table(record))])


def beside_official(record: Record) -> str:
    """The quoted ratios, and their products with what this record measured against the same version."""
    titles = ["case", f"official / {QUOTED_COMMIT} (quoted)", f"{QUOTED_COMMIT} / this", "official / this"]
    titles += [f"growth MiB official, {QUOTED_COMMIT} (quoted)"]
    ratios = {}
    if record.trees.get(AGAINST, {}).get("commit", "")[: len(QUOTED_COMMIT)] == QUOTED_COMMIT:
        ratios = {case.name: case.ratios["cpu"] for case in record.cases if case.ratios}
    rows = []
    for name, (quoted, official, ours) in QUOTED.items():
        here = [f"{ratios[name]:.2f}", f"{quoted * ratios[name]:.2f}"] if name in ratios else ["", ""]
        rows.append([name, f"{quoted:.2f}", *here, "" if official is None else f"{official}, {ours}"])
    return markdown(titles, rows)


def page(text: str, record: Record) -> str:
    """The page with both blocks written anew."""
    for name, block in (("measured", measured(record)), ("official", beside_official(record))):
        new = f"<!-- {name} -->\n{block}\n<!-- end -->"
        text = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _, new=new: new, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    document = DOCS / "speed.md"
    document.write_text(page(document.read_text(encoding="utf-8"), read_record(DOCS / "speed.json")), encoding="utf-8")

"""One table of several comparisons that differ in their seed: mean ± standard deviation (divisor n − 1) over seeds.

usage: python scripts/seed_table.py FOLDER [FOLDER ...]

Each folder is what `ld3m compare --seed S --out FOLDER` left. A cell's number of a seed is the mean over its networks.
"""

import json
import statistics
import sys
from pathlib import Path


def cells(folder: Path) -> dict[tuple[str, str], float]:
    """Mean accuracy in percent by network and column."""
    rows = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return {(row["network"], row["images"]): statistics.mean(row["accuracies"]) for row in rows}


def main() -> None:
    """Print the table in Markdown."""
    found = [cells(Path(name)) for name in sys.argv[1:]]
    if not found:
        sys.exit(__doc__)
    if any(set(one) != set(found[0]) for one in found):
        sys.exit("the comparisons have other networks or generators: a table needs the same in each")
    networks, columns = (list(dict.fromkeys(key[which] for key in found[0])) for which in (0, 1))
    print("| network |", " | ".join(columns), "|")
    print("| --- |", " | ".join("---:" for _ in columns), "|")
    for network in networks:
        values = [[one[network, column] for one in found] for column in columns]
        print(f"| {network} |", " | ".join(map(cell, values)), "|")
    means = [[statistics.mean(one[network, column] for network in networks) for one in found] for column in columns]
    print("| mean |", " | ".join(map(cell, means)), "|")


def cell(values: list[float]) -> str:
    """`71.2 ± 0.4`, or the number alone where there is one."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()

"""Draw docs/images/mtt-memory.png: memory of trajectory matching over the steps of the student.

usage: ld3m bench --only 'mtt-memory/*' --json RECORD
       python scripts/plot_mtt_memory.py RECORD [PNG]
"""

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

from ld3m_plugin.bench.bench_record import THIS, read_record

NAME = re.compile(r"mtt-memory/(.+)-(\d+)")
TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "mtt-memory.png"


def main() -> None:
    """Read the record, and draw one curve a form of the gradient."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for case in read_record(Path(sys.argv[1])).cases:
        if (found := NAME.fullmatch(case.name)) and case.measured[THIS].rounds:
            curves.setdefault(found[1], []).append((int(found[2]), case.measured[THIS].peak))
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for form, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=form)
    axes.set(xlabel="steps of the student", ylabel="peak memory of the process (MiB)")
    axes.set_ylim(bottom=0)
    axes.set_title("One match of MTT, ConvNet, 10 images of 32x32")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET, dpi=120)


if __name__ == "__main__":
    main()

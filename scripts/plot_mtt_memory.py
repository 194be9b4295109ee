"""Draw docs/images/mtt-memory.png from what `scripts/benchmark.py mtt` printed.

usage: for g in adjoint unrolled; do for n in 5 20 80; do
         python scripts/benchmark.py mtt --return --gradient $g --syn-steps $n
       done; done | python scripts/plot_mtt_memory.py [PNG]
"""

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

LINE = re.compile(r"mtt (\S+), (\d+) steps, (\d+) images.*peak (\d+) MiB")
TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "mtt-memory.png"


def main() -> None:
    """Read lines from standard input, one curve a form of the gradient."""
    curves: dict[str, list[tuple[int, int]]] = {}
    images = set()
    for form, steps, count, peak in LINE.findall(sys.stdin.read()):
        curves.setdefault(form, []).append((int(steps), int(peak)))
        images.add(count)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for form, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=form)
    axes.set(xlabel="steps of the student", ylabel="peak memory of the process (MiB)")
    axes.set_ylim(bottom=0)
    axes.set_title(f"One match of MTT, ConvNet, {'/'.join(sorted(images))} images of 32x32")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET, dpi=120)


if __name__ == "__main__":
    main()

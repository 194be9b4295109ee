"""Print tables of a study from its CSV files, and draw its paired differences as a forest plot.

usage: python scripts/paired_tables.py CSV [CSV ...] [--baseline ld3m] [--plot PNG]

A line of a file is `pictures,seed,NETWORK,...`: accuracies in percent. Pictures are `generator+objective`, or the
name of pictures that learn nothing. Each baseline is compared with the generators of its objective and with all
pictures that learn nothing, at the seeds that they share. Intervals and p values are of paired t tests over seeds; p
is not corrected.
"""

import argparse
import csv
from pathlib import Path
from statistics import fmean, stdev

from ld3m_plugin.comparison.paired import Estimate, estimate

Seeds = dict[int, dict[str, float]]


def read(paths: list[Path]) -> dict[str, Seeds]:
    """Read accuracies by pictures, seed and network."""
    found: dict[str, Seeds] = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                pictures, seed = line.pop("pictures"), int(line.pop("seed"))
                found.setdefault(pictures, {})[seed] = {network: float(value) for network, value in line.items()}
    return found


def spread(values: list[float]) -> str:
    """Write mean ± standard deviation."""
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{fmean(values):.1f}"


def differences(found: dict[str, Seeds], baseline: str) -> list[tuple[str, Estimate]]:
    """Estimate, of the mean over networks, each baseline minus what it is compared with."""
    made = []
    for base in (name for name in found if name.partition("+")[0] == baseline):
        for other in found:
            if other != base and other.partition("+")[2] in ("", base.partition("+")[2]):
                shared = sorted(found[base].keys() & found[other].keys())
                if shared:
                    values = [fmean(found[base][seed].values()) - fmean(found[other][seed].values()) for seed in shared]
                    made.append((f"{base} - {other}", estimate(values)))
    return made


def print_tables(found: dict[str, Seeds], made: list[tuple[str, Estimate]]) -> None:
    """Print accuracies by network, and differences, as Markdown."""
    networks = list(next(iter(next(iter(found.values())).values())))
    print(f"| pictures | {' | '.join(networks)} | mean | n |\n| --- |{' ---: |' * (len(networks) + 2)}")
    for name, seeds in found.items():
        cells = [spread([row[network] for row in seeds.values()]) for network in networks]
        mean = spread([fmean(row.values()) for row in seeds.values()])
        print(f"| {name} | {' | '.join(cells)} | **{mean}** | {len(seeds)} |")
    print("\n| difference | points | interval, 95 % | p | n |\n| --- | ---: | --- | ---: | ---: |")
    for name, value in made:
        ends, p = value.interval(), value.p_value()
        reach = f"{ends[0]:+.2f} to {ends[1]:+.2f}" if ends else ""
        tested = "" if p is None else f"{p:.4f}" if p >= 1e-4 else "< 0.0001"
        print(f"| {name} | {value.mean:+.2f} | {reach} | {tested} | {value.n} |")


def draw(made: list[tuple[str, Estimate]], path: Path) -> None:
    """Draw means and intervals, a line each."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.34 * len(made)), layout="constrained")
    for place, (_, value) in enumerate(made):
        low, high = value.interval() or (value.mean, value.mean)
        axes.plot([low, high], [place, place], color="0.35")
        axes.plot(value.mean, place, "o", color="tab:blue")
        axes.annotate(f"{value.mean:+.1f}", (high, place), (6, -3), textcoords="offset points", fontsize=8)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(made)), [name for name, _ in made])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("points, mean of the networks, with 95 % intervals over seeds")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Read the arguments, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV")
    parser.add_argument("--baseline", default="ld3m", help="its generator (default: %(default)s)")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    given = parser.parse_args()
    found = read(given.files)
    made = differences(found, given.baseline)
    print_tables(found, made)
    if given.plot:
        draw(made, given.plot)


if __name__ == "__main__":
    main()

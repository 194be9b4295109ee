"""Print tables of a study from its CSV files, and draw its paired differences as a forest plot.

usage: python scripts/paired_tables.py CSV [CSV ...] [--baseline ld3m] [--leave-out NAMES] [--plot PNG] [--csv CSV]

A file is `seeds.csv` of a comparison, or what `--csv` wrote: lines of `pictures,seed,NETWORK,...` with accuracies in
percent. Pictures are `generator+objective` with the settings that differ, or the name of pictures that learn nothing.
Each baseline is compared with the generators of its objective and with all pictures that learn nothing, at the seeds
that they share. Intervals and p values are of paired t tests over seeds; p is not corrected.
"""

import argparse
import csv
from pathlib import Path
from statistics import fmean, stdev

from ld3m_plugin.comparison.paired import Estimate, estimate

Seeds = dict[int, dict[str, float]]
#: Columns of `seeds.csv` that tell no pictures of one study apart.
OTHERS = {"data", "images_per_class", "numbers_per_class", "start", "seconds_per_step"}


def read(paths: list[Path]) -> dict[str, Seeds]:
    """Read accuracies by pictures, seed and network."""
    found: dict[str, Seeds] = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                pictures, seed = line.pop("pictures", None) or named(line), int(line.pop("seed"))
                found.setdefault(pictures, {})[seed] = {
                    network: float(value) for network, value in line.items() if value
                }
    return found


def named(line: dict[str, str]) -> str:
    """Take from a line of `seeds.csv` all but its seed and accuracies, and name the pictures."""
    for column in [name for name in line if name in OTHERS or name.endswith(" diverged")]:
        del line[column]
    name = "+".join(filter(None, (line.pop("generator"), line.pop("objective"))))
    settings = [f"{path.rpartition('.')[2]}={line.pop(path)}" for path in list(line) if "." in path]
    return " ".join([name, *(setting for setting in settings if not setting.endswith("="))])


def write(found: dict[str, Seeds], path: Path) -> None:
    """Write the accuracies, rounded to four decimals."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["pictures", "seed", *networks_of(found)])
        for pictures, seeds in found.items():
            lines.writerows([pictures, seed, *(round(a, 4) for a in row.values())] for seed, row in seeds.items())


def spread(values: list[float]) -> str:
    """Write mean ± standard deviation."""
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{fmean(values):.1f}"


def differences(found: dict[str, Seeds], baseline: str) -> list[tuple[str, Estimate]]:
    """Estimate, of the mean over networks, each baseline minus what it is compared with."""
    made = []
    for base in (name for name in found if baseline in (name, name.partition("+")[0])):
        for other in found:
            if other != base and (base == baseline or other.partition("+")[2] in ("", base.partition("+")[2])):
                shared = sorted(found[base].keys() & found[other].keys())
                if shared:
                    values = [fmean(found[base][seed].values()) - fmean(found[other][seed].values()) for seed in shared]
                    made.append((f"{base} - {other}", estimate(values)))
    return made


def networks_of(found: dict[str, Seeds]) -> list[str]:
    """Names of the networks, the same in all rows."""
    return list(next(iter(next(iter(found.values())).values())))


def print_tables(found: dict[str, Seeds], made: list[tuple[str, Estimate]]) -> None:
    """Print accuracies by network, and differences, as Markdown."""
    networks = networks_of(found)
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
    parser.add_argument(
        "--baseline",
        default="ld3m",
        help="its generator, or the whole name of one, which is compared with all (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--leave-out", default="", help="pictures that are not shown, separated by commas")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="also write all accuracies here")
    given = parser.parse_args()
    left_out = given.leave_out.split(",")
    found = {name: seeds for name, seeds in read(given.files).items() if name not in left_out}
    if given.csv:
        write(found, given.csv)
    made = differences(found, given.baseline)
    print_tables(found, made)
    if given.plot:
        draw(made, given.plot)


if __name__ == "__main__":
    main()

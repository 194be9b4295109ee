"""Print accuracies over the steps of a comparison whose rows were evaluated between steps, and draw them.

usage: python scripts/accuracy_over_steps.py FOLDER_OR_CSV [--seen ConvNet] [--csv CSV] [--plot PNG]

The rows of a comparison are evaluated between steps with `--set evaluation.every=25`. The table and the figure have two
parts: networks that the pictures are distilled with (`--seen`), and the others. A cell is the mean over the networks of a
part, then mean ± standard deviation over seeds, at the steps that all seeds have. A second table has the first pictures
minus each of the others, paired by seed, with intervals of t tests (not corrected).
"""

import argparse
import csv
from collections.abc import Collection
from pathlib import Path
from statistics import fmean, stdev

from paired_tables import reach, spread

from ld3m_plugin.comparison.manifest import Manifest
from ld3m_plugin.comparison.paired import Estimate, estimate
from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.report.metric_lines import read_metrics

#: By pictures, seed and step: the accuracy of each network in percent.
Accuracies = dict[str, dict[int, dict[int, dict[str, float]]]]
#: By pictures and step: the mean over some networks, a number for each seed.
Means = dict[str, dict[int, list[float]]]
_FIRST = ("pictures", "seed", "step")


def read_folder(folder: Path) -> Accuracies:
    """Read the records of all rows of a comparison that have any.

    Raises:
        HostError: no comparison, or one of several data sets or numbers of images: no table for a mean.
    """
    manifest = Manifest.read(folder)
    if len({(row.data, row.images_per_class) for row in manifest.rows}) > 1:
        raise UsageError(f"{folder} has several data sets or numbers of images: compare one of them")
    found: Accuracies = {}
    for row in manifest.rows:
        settings = [f"{path.rpartition('.')[2]}={value}" for path, value in row.varied.items()]
        name = " ".join(["+".join(filter(None, (row.generator, row.objective))), *settings])
        for network, points in read_metrics(manifest.run_folder(row)).accuracies.items():
            for step, accuracy in points:
                found.setdefault(name, {}).setdefault(row.seed, {}).setdefault(int(step), {})[network] = accuracy
    return found


def read_csv(path: Path) -> Accuracies:
    """Read what `write_csv` wrote.

    Raises:
        HostError: other columns, or a cell that is no number.
    """
    found: Accuracies = {}
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    try:
        for line in lines:
            accuracies = {name: float(value) for name, value in line.items() if name not in _FIRST}
            found.setdefault(line["pictures"], {}).setdefault(int(line["seed"]), {})[int(line["step"])] = accuracies
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is not what --csv writes: {error!r}") from None
    return found


def write_csv(found: Accuracies, networks: list[str], path: Path) -> None:
    """Write a line for each pictures, seed and step."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*_FIRST, *networks])
        for name, seeds in found.items():
            for seed, steps in seeds.items():
                for step, row in steps.items():
                    lines.writerow([name, seed, step, *(round(row[network], 4) for network in networks)])


def over_steps(found: Accuracies, networks: Collection[str]) -> Means:
    """By pictures and step that all seeds have: the mean over `networks`, a number for each seed."""
    means: Means = {}
    for name, seeds in found.items():
        common = sorted(set.intersection(*(set(steps) for steps in seeds.values())))
        means[name] = {
            step: [fmean(steps[step][network] for network in networks) for steps in seeds.values()] for step in common
        }
    return means


def differences(found: Accuracies, networks: Collection[str]) -> dict[str, dict[int, Estimate]]:
    """By name of the difference and step: the first pictures minus others, of the mean over `networks`, paired by seed."""
    (first, ours), *others = found.items()
    made: dict[str, dict[int, Estimate]] = {}
    for name, theirs in others:
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            continue
        pair = over_steps({f: {seed: found[f][seed] for seed in shared} for f in (first, name)}, networks)
        made[f"{first} - {name}"] = {
            step: estimate([mine - other for mine, other in zip(values, pair[name][step], strict=True)])
            for step, values in pair[first].items()
            if step in pair[name]
        }
    return made


def print_differences(parts: dict[str, dict[str, dict[int, Estimate]]]) -> None:
    """Print a line for each part and difference, a column for each step; nothing where no seeds are shared."""
    steps = sorted({step for made in parts.values() for line in made.values() for step in line})
    if not steps:
        return
    print(f"\n| networks | difference | {' | '.join(map(str, steps))} |\n| --- | --- |{' ---: |' * len(steps)}")
    for part, made in parts.items():
        for name, line in made.items():
            cells = [f"{line[step].mean:+.1f} ({reach(line[step], 1)})" if step in line else "" for step in steps]
            print(f"| {part} | {name} | {' | '.join(cells)} |".replace(" ()", ""))


def print_table(parts: dict[str, Means]) -> None:
    """Print a line for each part and pictures, a column for each step."""
    steps = sorted({step for means in parts.values() for line in means.values() for step in line})
    print(f"| networks | pictures | n | {' | '.join(map(str, steps))} |\n| --- | --- | ---: |{' ---: |' * len(steps)}")
    for part, means in parts.items():
        for name, line in means.items():
            cells = [spread(line[step]) if step in line else "" for step in steps]
            print(f"| {part} | {name} | {max(map(len, line.values()), default=0)} | {' | '.join(cells)} |")


def draw(parts: dict[str, Means], path: Path) -> None:
    """Draw a panel for each part: means, and bands of one standard deviation over seeds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(parts), figsize=(4.5 * len(parts), 3.4), layout="constrained", squeeze=False)
    for axes, (part, means) in zip(panels[0], parts.items(), strict=True):
        for name, line in means.items():
            middle = [fmean(values) for values in line.values()]
            width = [stdev(values) if len(values) > 1 else 0.0 for values in line.values()]
            (drawn,) = axes.plot(
                list(line),
                middle,
                marker="o",
                markersize=3,
                label=f"{name}, n = {max(map(len, line.values()), default=0)}",
            )
            low, high = ([m + side * w for m, w in zip(middle, width, strict=True)] for side in (-1, 1))
            axes.fill_between(list(line), low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=part, xlabel="steps", ylabel="accuracy, % ± deviation")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Read the arguments, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FOLDER_OR_CSV")
    parser.add_argument("--seen", default="ConvNet", help="networks of the distillation, separated by commas")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="also write all accuracies here")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    given = parser.parse_args()
    try:
        found = read_folder(given.source) if given.source.is_dir() else read_csv(given.source)
    except (HostError, OSError) as error:
        parser.error(str(error))
    if not found:
        parser.error(f"no row of {given.source} was evaluated between steps: compare with --set evaluation.every=25")
    rows = [row for seeds in found.values() for steps in seeds.values() for row in steps.values()]
    networks = list(rows[0])
    if any(row.keys() != rows[0].keys() for row in rows):
        parser.error("some rows have other networks than the first: compare all with the same --networks")
    if unknown := set(given.seen.split(",")) - set(networks):
        parser.error(f"no network {', '.join(sorted(unknown))} for --seen; there are: {', '.join(networks)}")
    seen = [network for network in networks if network in given.seen.split(",")]
    others = [network for network in networks if network not in seen]
    split = {", ".join(part): part for part in (seen, others) if part}
    parts = {name: over_steps(found, part) for name, part in split.items()}
    if given.csv:
        write_csv(found, networks, given.csv)
    print_table(parts)
    print_differences({name: differences(found, part) for name, part in split.items()})
    if given.plot:
        draw(parts, given.plot)


if __name__ == "__main__":
    main()

"""Print tables of a study from its CSV files, and draw its paired differences as a forest plot.

usage: python scripts/paired_tables.py CSV [CSV ...] [--baseline ld3m] [--leave-out NAME ...] [--networks NAMES]
       [--plot PNG] [--csv CSV]

A file is `seeds.csv` of a comparison, or what `--csv` wrote: lines of `pictures,seed,NETWORK,...` with accuracies in
percent, and `NETWORK diverged` where some did, of one data set and number of images (the one asked for, with equal
storage). Pictures are `generator+objective` and the settings that differ, or the name of pictures that learn nothing. A
baseline that is a generator is compared with the generators of its objective and with all pictures that learn nothing,
one with settings (`"ld3m+dm steps=5"`) with all others, at the seeds that they share. Intervals and p values are of
paired t tests over seeds. p is corrected by Holm's procedure in two families: the differences to generators that are
shown, and those to pictures that learn nothing.
"""

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from ld3m_plugin.comparison.paired import Estimate, estimate, holm
from ld3m_plugin.comparison.seed_table import ASKED


class UnfitError(Exception):
    """Lines that cannot stand in one table."""


class Accuracies(dict[str, float]):
    """Accuracies by network, percent; `diverged` has how many trainings of a network diverged, where some did."""

    def __init__(self, line: Mapping[str, str], networks: Iterable[str]) -> None:
        super().__init__({name: float(line[name]) for name in networks})
        try:
            counts = {name: int(line.get(f"{name}{DIVERGED}") or 0) for name in self}
        except ValueError as error:
            raise UnfitError(f"how many networks diverged is no whole number: {error}") from None
        self.diverged = {name: count for name, count in counts.items() if count}


Seeds = dict[int, Accuracies]
#: What the name of a network is followed by in the column that counts its trainings that diverged.
DIVERGED = " diverged"
#: The file that `--csv` writes has these columns before its networks.
NAMED = ("pictures", "seed")


def read(paths: list[Path], only: Sequence[str] = ()) -> dict[str, Seeds]:
    """Read accuracies by pictures, seed and network.

    Args:
        paths: of the files.
        only: these networks, which the files may have among others; empty: all, the same ones in each file.

    Raises:
        UnfitError: two lines of the same pictures and seed; other networks, data or numbers of images than the first line's;
            a line without one of `only`.
    """
    found: dict[str, Seeds] = {}
    first: tuple[set[str], dict[str, str]] | None = None
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        # With equal storage some lines have more images than were asked for: no table beside lines of another comparison.
        storage = any(line.get(ASKED) and line[ASKED] != line["images_per_class"] for line in lines)
        if storage and len(paths) > 1:
            raise UnfitError(f"{path}: equal storage, which makes a table of its own: give this file alone")
        for line in lines:
            try:
                name, terms, accuracies = from_study(line) if "pictures" in line else from_seeds(line)
            except UnfitError as error:
                raise UnfitError(f"{path}: {error}") from None
            if missing := set(only) - set(accuracies):
                raise UnfitError(f"{path}: no network {', '.join(sorted(missing))}; there are: {', '.join(accuracies)}")
            accuracies = Accuracies(line, only or accuracies)
            first = first or (set(accuracies), terms)
            if set(accuracies) != first[0] or (terms and first[1] and terms != first[1]):
                raise UnfitError(f"{path}: {name}, seed {line['seed']} has other networks or data than the first line")
            if int(line["seed"]) in found.setdefault(name, {}):
                raise UnfitError(f"{path}: {name}, seed {line['seed']} is there already")
            found[name][int(line["seed"])] = accuracies
    return found


def from_study(line: dict[str, str]) -> tuple[str, dict[str, str], Accuracies]:
    """Read a line that `--csv` wrote."""
    networks = [name for name in line if name not in NAMED and not name.endswith(DIVERGED)]
    return line["pictures"], {}, Accuracies(line, networks)


def from_seeds(line: dict[str, str]) -> tuple[str, dict[str, str], Accuracies]:
    """Read a line of `seeds.csv`: what the pictures are called, what all lines must share, and the accuracies.

    Raises:
        UnfitError: other columns.
    """
    columns = list(line)
    if not {"start", "seed"} <= line.keys():
        raise UnfitError(f"these columns are not those of seeds.csv nor of --csv: {', '.join(columns)}")
    varied = [path for path in columns[columns.index("start") + 1 : columns.index("seed")] if line[path]]
    networks = [name for name in columns if f"{name}{DIVERGED}" in line and line[name]]
    name = "+".join(filter(None, (line["generator"], line["objective"])))
    return (
        " ".join([name, *(f"{path.rpartition('.')[2]}={line[path]}" for path in varied)]),
        {"data": line["data"], "images": line.get(ASKED) or line["images_per_class"]},
        Accuracies(line, networks),
    )


def write(found: dict[str, Seeds], path: Path) -> None:
    """Write the accuracies, rounded to four decimals, and of networks of which some diverged, how many."""
    networks = networks_of(found)
    some = [
        name for name in networks if any(name in row.diverged for seeds in found.values() for row in seeds.values())
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*NAMED, *networks, *(f"{name}{DIVERGED}" for name in some)])
        for pictures, seeds in found.items():
            for seed, row in seeds.items():
                counts = [row.diverged.get(name, 0) for name in some]
                lines.writerow([pictures, seed, *(round(row[n], 4) for n in networks), *counts])


def spread(values: list[float]) -> str:
    """Write mean ± standard deviation."""
    return f"{fmean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{fmean(values):.1f}"


def failed(seeds: Seeds, network: str) -> str:
    """Write how many trainings of a network diverged, where some did."""
    count = sum(row.diverged.get(network, 0) for row in seeds.values())
    return f", {count} diverged" if count else ""


def reach(value: Estimate, digits: int) -> str:
    """Write the interval of a difference, which one seed has not."""
    ends = value.interval()
    return f"{ends[0]:+.{digits}f} to {ends[1]:+.{digits}f}" if ends else ""


def differences(found: dict[str, Seeds], baseline: str) -> list[tuple[str, Estimate]]:
    """Estimate, of the mean over networks, each baseline minus what it is compared with, generators first."""
    made, others = [], sorted(found, key=lambda name: "+" not in name)
    for base in (name for name in found if baseline in (name, name.partition("+")[0])):
        for other in others:
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
        cells = [spread([row[network] for row in seeds.values()]) + failed(seeds, network) for network in networks]
        mean = spread([fmean(row.values()) for row in seeds.values()])
        print(f"| {name} | {' | '.join(cells)} | **{mean}** | {len(seeds)} |")
    print("\n| difference | points | interval, 95 % | p | corrected | n |\n| --- | ---: | --- | ---: | ---: | ---: |")
    after = corrected(made)
    for name, value in made:
        tested = f"{p_text(value.p_value())} | {p_text(after.get(name))}"
        print(f"| {name} | {value.mean:+.2f} | {reach(value, 2)} | {tested} | {value.n} |")


def corrected(made: list[tuple[str, Estimate]]) -> dict[str, float]:
    """Correct the p values of the differences that can be tested, each family for itself, by the difference's name."""
    found: dict[str, float] = {}
    for of_generators in (True, False):
        family = {
            name: p
            for name, value in made
            if ("+" in name.partition(" - ")[2]) == of_generators and (p := value.p_value()) is not None
        }
        found |= dict(zip(family, holm(list(family.values())), strict=True))
    return found


def p_text(p: float | None) -> str:
    """Write a p value; nothing without a test."""
    return "" if p is None else f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


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
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="NAME", help="pictures not to show; repeatable"
    )
    parser.add_argument("--networks", help="only these, separated by commas")
    parser.add_argument("--csv", type=Path, metavar="CSV", help="also write all accuracies here")
    given = parser.parse_args()
    try:
        found = read(given.files, given.networks.split(",") if given.networks else ())
    except UnfitError as error:
        parser.error(str(error))
    if unknown := set(given.leave_out) - set(found):
        parser.error(f"no pictures {', '.join(sorted(unknown))}; there are: {', '.join(found)}")
    found = {name: seeds for name, seeds in found.items() if name not in given.leave_out}
    if not any(given.baseline in (name, name.partition("+")[0]) for name in found):
        parser.error(f"no baseline {given.baseline}; there are: {', '.join(found)}")
    if given.csv:
        write(found, given.csv)
    made = differences(found, given.baseline)
    print_tables(found, made)
    if given.plot:
        draw(made, given.plot)


if __name__ == "__main__":
    main()

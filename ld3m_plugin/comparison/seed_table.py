"""`seeds.csv`: what the statistics of a table are made of, a line for each configuration and seed.

The other tables hold means and deviations. Another test, another pairing or another plot needs the numbers behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ld3m_plugin.comparison.exports import NAMES
from ld3m_plugin.comparison.seed_results import AVERAGES, SeedResult
from ld3m_plugin.storage import write_text

SEEDS = "seeds.csv"
#: The column of images per class on whose terms lines are compared; with equal storage a line may have others.
ASKED = "images_asked"


def write_seeds(results: Sequence[SeedResult], folder: Path) -> None:
    """Write `SEEDS` into `folder`, which exists; an older one is replaced in one move.

    A column of a network is its accuracy in percent, the mean of the networks that were trained at that seed; the column behind
    it says how many of them diverged. Both are empty where the network was not evaluated. `AVERAGES` are over the networks.
    `ASKED` differs from the images per class where storage is equal.
    """
    import pandas as pd

    settings = dict.fromkeys(path for result in results for path in result.settings)
    networks = dict.fromkeys(network for result in results for network in result.accuracies)
    lines = []
    for result in results:
        line = {name: getattr(result, name) for name in NAMES}
        line |= {path: result.settings.get(path) for path in settings} | {"seed": result.seed}
        line[ASKED] = result.images_per_class if result.asked is None else result.asked
        for network in networks:
            there = network in result.accuracies
            line[network] = fmean(result.accuracies[network]) if there else None
            line[f"{network} diverged"] = result.diverged.get(network, 0) if there else None
        line |= {measure: result.value(measure) for measure in AVERAGES}
        lines.append(line | {"seconds_per_step": result.seconds_per_step})
    # As objects: whole numbers stay whole beside an empty cell.
    write_text(folder / SEEDS, pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n"))

"""Sweep learning rates and epochs of evaluation networks on random real subsets of the training images; prints a table.

    python scripts/sweep_rates.py --networks MLP,SmallViT --ipc 1,10 --rates 0.003,0.01,0.03 --seeds 3

Neither a test image nor a distilled set enters: networks train on some training images and are tested on others: those that the
data set holds out for choosing settings (of `emoji`, drawings that are in training in no style), or random ones. Each cell is the
mean accuracy in percent over `--seeds` networks, each on a subset of its own, its deviation, and how many diverged. The cells
of a network with equally many images have the same subsets and initial weights: `--paired` compares them pair by pair, `--csv`
keeps each accuracy.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from evaluation_arguments import evaluation_parser, given_task

from ld3m_plugin.comparison.paired import estimate
from ld3m_plugin.contracts import Task
from ld3m_plugin.data.selection import ChosenImages, for_selection
from ld3m_plugin.errors import DataError, HostError, UsageError
from ld3m_plugin.evaluation import evaluate_random_real, get_protocol
from ld3m_plugin.evaluation.table import Row
from ld3m_plugin.randomness import stream

#: Training images of each class that are tested on where the data set names none.
RANDOM = 100


def split(task: Task, held_out: int | None) -> Task:
    """The task with held-out training images in place of its test images, and without them in training.

    Args:
        task: what is split.
        held_out: random images of each class; None: those that the task names, else `RANDOM`.

    Raises:
        UsageError: no image is left to test on, or to train on; the data set says that none may be held out.
    """
    if held_out is None and task.held_out is not None:
        try:
            return for_selection(task)
        except DataError as error:
            raise UsageError(f"{error}; --held-out N tests on random training images") from None
    count, least = RANDOM if held_out is None else held_out, min(task.train.counts())
    if not 0 < count < least:
        raise UsageError(
            f"--held-out {count}: give 1 to {least - 1}, as the smallest class has {least} training images"
        )
    orders = [torch.randperm(images, generator=stream(0, "sweep", k)) for k, images in enumerate(task.train.counts())]
    kept, held = tuple(order[count:] for order in orders), tuple(order[:count] for order in orders)
    return replace(
        task,
        train=ChosenImages(task.train, kept),
        test_images=ChosenImages(task.train, held),
        test_groups=None,
        held_out=None,
        held_out_groups=None,
    )


#: What `--csv` writes: how a network was trained and tested, and what came of it.
COLUMNS = (
    *("data", "tested_on", "protocol", "bf16"),
    *("network", "images_per_class", "epochs", "clip", "rate", "repeat", "accuracy", "diverged"),
)


def begin(path: Path) -> None:
    """Write the header of a CSV file, or check that of one that is there.

    Raises:
        UsageError: the file cannot be written, or is no such file.
    """
    header = ",".join(COLUMNS) + "\n"
    try:
        with path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            found = file.read()
            if not found:
                file.write(header)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--csv {path}: {error}") from None
    if found and not (found.startswith(header) and found.endswith("\n")):
        raise UsageError(f"--csv {path}: this is no file of a sweep: give another name")


def write(path: Path, cell: tuple[object, ...], row: Row) -> None:
    """Append a line for each network of a cell to a CSV file that has begun.

    Args:
        path: of the file.
        cell: the first nine of `COLUMNS`.
        row: the networks' accuracies in percent, and which of them diverged.
    """
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            (*cell, repeat, round(accuracy, 4), int(repeat in row.diverged))
            for repeat, accuracy in enumerate(row.accuracies)
        )


def texts(rows: Mapping[float, Row], against: float | None) -> list[str]:
    """A cell for each rate: the row, and its mean difference to the row of the rate `against` over pairs of networks.

    With its 95 % interval of a paired t test. No difference where one of the two has diverged networks or but one network, or
    where `against` is none of the rates.
    """
    found, own = [], None if against is None else rows.get(against)
    for row in rows.values():
        if own and row is not own and row.n > 1 and not (row.diverged or own.diverged):
            value = estimate([one - other for one, other in zip(row.accuracies, own.accuracies, strict=True)])
            low, high = value.interval() or (value.mean, value.mean)
            found.append(f"{row}, {value.mean:+.1f} ({low:+.1f} to {high:+.1f})")
        else:
            found.append(str(row))
    return found


def main() -> None:
    parser = evaluation_parser(__doc__)
    for name, default in (("ipc", "1,10,50"), ("rates", "0.003,0.01,0.03,0.1"), ("epochs", ""), ("clip", "")):
        parser.add_argument(f"--{name}", default=default, help="separated by commas")
    parser.add_argument(
        "--held-out",
        type=int,
        metavar="N",
        help="test on N random training images of each class [those that the data set holds out, else 100]",
    )
    parser.add_argument(
        "--bf16", action="store_true", help="train and test under autocast, in half precision where it may"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also append each network's accuracy to this file")
    parser.add_argument("--paired", action="store_true", help="also print differences to the protocol's own rate")
    given = parser.parse_args()
    try:
        whole, base = given_task(given), get_protocol(given.protocol)
        task = split(whole, given.held_out)
        if given.csv:
            begin(given.csv)
    except HostError as error:
        parser.error(str(error))
    rates = [float(rate) for rate in given.rates.split(",")]
    epochs = [int(number) for number in given.epochs.split(",") if number] or [base.epochs]
    clips = [float(clip) for clip in given.clip.split(",") if clip] or [base.gradient_clip]
    print("| network | images a class | epochs | clip |", " | ".join(f"{rate:g}" for rate in rates), "| CPU s |")
    print("| --- | ---: | ---: | ---: |", " | ".join("---:" for _ in rates), "| ---: |")
    networks = given.networks.split(",") if given.networks else base.networks
    named = given.held_out is None and whole.held_out is not None
    tested_on = "held out by the data set" if named else f"{given.held_out or RANDOM} random a class"
    of_all = (" ".join([given.data, *given.D]), tested_on, base.name, int(given.bf16))
    for network, count, number, clip in product(networks, map(int, given.ipc.split(",")), epochs, clips):
        rows: dict[float, Row] = {}
        began = time.process_time()
        for rate in rates:
            recipe = base.model_copy(
                update={"learning_rates": {network: rate}, "epochs": number, "gradient_clip": clip, "name": "sweep"}
            )
            labels = torch.arange(task.num_classes).repeat_interleave(count)
            # Without the cache: it would keep the half-precision weights of the first step for all others.
            with torch.autocast(task.device.type, torch.bfloat16, enabled=given.bf16, cache_enabled=False):
                found = evaluate_random_real(labels, task, networks=[network], protocol=recipe, repeats=given.seeds)
            rows[rate] = found.rows[0]
            if given.csv:
                write(given.csv, (*of_all, network, count, number, clip or "none", f"{rate:g}"), found.rows[0])
        spent, cells = time.process_time() - began, texts(rows, base.rate(network) if given.paired else None)
        print(
            f"| {network} | {count} | {number} | {clip or 'none'} |", " | ".join(cells), f"| {spent:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()

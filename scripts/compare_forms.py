"""Accuracy of the fast forms beside the forms that they replaced, paired by seed: the same start, draws and networks.

    python scripts/compare_forms.py CASE --seeds 0,1,2 > FILE     # a line of JSON for each seed
    python scripts/compare_forms.py --read FILE ...               # the table

Cases: ld3m+dm, pixel+dm, pixel+mtt, on the embedded Fashion-MNIST with a ConvNet of width 32. The forms that were replaced:
layers of networks and of priors as torch and diffusers have them, all real images in one pass, the adjoint form of trajectory
matching.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from unittest.mock import patch

import torch
from scipy.stats import t as student

from ld3m_plugin import load_task
from ld3m_plugin.config import resolve
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.generators.ld3m import ldm_prior
from ld3m_plugin.networks import fast_layers
from ld3m_plugin.objectives import matching

SMALL = {"width": 32}
CASES = {
    "ld3m+dm": {"generator.name": "ld3m", "generator.options": {"steps": 5}, "objective.name": "dm"},
    "pixel+dm": {"generator.name": "pixel", "objective.name": "dm"},
    "pixel+mtt": {"generator.name": "pixel", "objective.name": "mtt"},
}
OPTIONS = {
    "dm": {"batch_real": 64, "network_settings": SMALL},
    "mtt": {
        "network_settings": SMALL,
        "expert_settings": {"count": 2, "epochs": 5},
        "expert_epochs": 2,
        "max_start_epoch": 3,
        "syn_steps": 10,
        "lr_teacher": 0.03,
    },
}


@contextmanager
def forms(are_fast: bool) -> Iterator[None]:
    """The forms as they are, or those that they replaced."""
    with ExitStack() as stack:
        if not are_fast:
            stack.enter_context(patch.object(fast_layers, "_suits", lambda _: False))
            for name in ("shorten", "shorten_unet"):
                stack.enter_context(patch.object(ldm_prior, name, lambda _: None))
            stack.enter_context(patch.object(matching, "_PIXELS_AT_ONCE", {"cpu": 2**30}))
        yield


def accuracies(case: str, seed: int, steps: int, are_fast: bool) -> dict[str, float]:
    """Distil, and train networks on the images."""
    settings, task = dict(CASES[case]), load_task("fashion-mnist:embedded")
    options = dict(OPTIONS[settings["objective.name"]])
    if settings["objective.name"] == "mtt":
        options["gradient"] = "unrolled" if are_fast else "adjoint"
    with forms(are_fast):
        config = resolve(settings=[*settings.items(), ("objective.options", options), ("seed", seed), ("steps", steps)])
        state = Distillation(config, task=task)
        for _ in range(steps):
            state.step()
        images = state.images()
    made = SimpleNamespace(images=images, labels=state.labels, metadata={}, learned={})
    chosen = {"networks": ["ConvNet", "MLP"], "repeats": 2, "test_per_class": 100, "random_real": False}
    found = evaluate(made, task, protocol="unseen", seed=seed, **chosen)
    return {row.network: fmean(row.accuracies) for row in found.rows}


def table(lines: list[str]) -> Iterator[str]:
    """Means of both forms and the 95 % interval of their difference, by case and network."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for line in map(json.loads, lines):
        for network in line["fast"]:
            pairs[line["case"], network].append((line["fast"][network], line["replaced"][network]))
    yield "| case | network | seeds | replaced | fast | difference | 95 % interval |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for (case, network), values in sorted(pairs.items()):
        gaps = [fast - replaced for fast, replaced in values]
        half = student.ppf(0.975, len(gaps) - 1) * stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
        fast, replaced, gap = fmean(a for a, _ in values), fmean(b for _, b in values), fmean(gaps)
        bounds = f"{gap - half:+.2f} to {gap + half:+.2f}"
        yield f"| {case} | {network} | {len(gaps)} | {replaced:.1f} | {fast:.1f} | {gap:+.2f} | {bounds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--read", nargs="+", type=Path)
    given = parser.parse_args()
    if given.read:
        sys.stdout.writelines(
            f"{line}\n" for line in table([x for path in given.read for x in path.read_text().splitlines()])
        )
        return
    if given.case is None:
        parser.error("give a CASE, or --read FILE")
    torch.set_num_threads(1)
    for seed in map(int, given.seeds.split(",")):
        found = {name: accuracies(given.case, seed, given.steps, name == "fast") for name in ("fast", "replaced")}
        sys.stdout.write(json.dumps({"case": given.case, "seed": seed, "steps": given.steps, **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

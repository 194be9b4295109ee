"""Evaluation of random real images alone, for tables that show them once beside several distilled sets."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from ld3m_plugin.contracts import Task
from ld3m_plugin.evaluation import (
    RANDOM_REAL,
    Evaluation,
    Progress,
    Row,
    _Builder,
    _hard,
    _random_real,
    check_evaluation,
)
from ld3m_plugin.evaluation.protocols import Protocol, get_protocol
from ld3m_plugin.evaluation.train_network import chosen_tests


def evaluate_random_real(
    labels: Tensor,
    task: Task,
    *,
    networks: Sequence[str] = (),
    protocol: str | Protocol = "quick",
    repeats: int | None = None,
    test_per_class: int | None = None,
    seed: int = 0,
    on_progress: Progress = lambda _: None,
) -> Evaluation:
    """Train networks on random real images and test them; the rows equal those that `evaluate` puts beside a distilled set.

    Args:
        labels: of that distilled set, (N,) or (N, K): each class has as many real images as synthetic ones.
        networks, protocol, repeats, test_per_class, seed, on_progress: as for `evaluate`.

    Raises:
        UsageError: an unknown protocol or network, or a protocol that wants a learned rate.
        DataError: no test images, or a class with too few training images.
    """
    started = time.perf_counter()
    recipe = (get_protocol(protocol) if isinstance(protocol, str) else protocol).for_images({})
    check_evaluation(task, recipe, networks, int(_hard(labels).bincount().max()))
    repeats = repeats or recipe.repeats
    rows = []
    for network in networks or recipe.networks:
        builder = _Builder(network, task, recipe, seed, test_per_class)
        accuracies = []
        for repeat in range(repeats):
            on_progress(f"{network} on {RANDOM_REAL} images, {repeat + 1} of {repeats}")
            accuracies.append(builder.test(*_random_real(labels, task, seed, repeat), repeat))
        rows.append(Row(RANDOM_REAL, network, tuple(accuracies)))
    tests = sum(len(chosen_tests(count, test_per_class)) for count in task.test.counts())
    seconds = time.perf_counter() - started
    return Evaluation(recipe, tuple(rows), tests, seed, seconds, task.source, test_per_class)

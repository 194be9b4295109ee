"""The cost of experts, before they are trained."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Task
from ld3m_plugin.objectives.mtt.store.expert_files import DTYPES
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.objectives.mtt.store.learners import learner_of
from ld3m_plugin.objectives.mtt.store.store_folder import Store, existing, store_of
from ld3m_plugin.objectives.mtt.store.train_experts import (
    check_together,
    epoch_batches,
    missing_experts,
    new_experts,
)
from ld3m_plugin.objectives.mtt.store.training_images import TrainingImages


@dataclass(frozen=True)
class Plan:
    """The experts that are wanted, those that exist, and the cost of the rest.

    Attributes:
        count, missing: experts in all, and those that are still to be trained.
        epochs: the last one that is trained and stored.
        parameters: P.
        updates: of one expert.
        expert_bytes, missing_bytes: rows of one expert and of the missing ones on the disk, without headers of a few kilobytes.
        free_bytes: on the disk of the root.
        seconds_an_update, seconds: of one expert, measured, and of the missing ones; None if nothing was timed.
    """

    folder: Path
    count: int
    missing: int
    epochs: int
    parameters: int
    updates: int
    expert_bytes: int
    missing_bytes: int
    free_bytes: int
    seconds_an_update: float | None
    seconds: float | None


def plan_experts(root: Path, task: Task, options: TrainingOptions, *, timed: int = 3) -> Plan:
    """Count the missing experts, and time some updates of the first ones. Nothing is written.

    Args:
        timed: how many updates are timed, after one that is not; 0: none.

    Raises:
        ExpertError, UsageError: as `train_experts` before it trains.
    """
    store = store_of(root, task, options.settings())
    store.check(options.dtype)
    check_together(store.task, options)
    missing = len(missing_experts(store, range(options.count), options.last_epoch))
    updates = math.ceil(sum(task.train.counts()) / options.batch_size) * options.last_epoch
    expert_bytes = (options.last_epoch + 1) * store.length * DTYPES[options.dtype].itemsize
    pace = _seconds_an_update(store, options, timed) if timed else None
    return Plan(
        folder=store.folder,
        count=options.count,
        missing=missing,
        epochs=options.last_epoch,
        parameters=store.length,
        updates=updates,
        expert_bytes=expert_bytes,
        missing_bytes=missing * expert_bytes,
        free_bytes=shutil.disk_usage(existing(root)).free,
        seconds_an_update=pace,
        seconds=None if pace is None else missing * updates * pace,
    )


def _seconds_an_update(store: Store, options: TrainingOptions, timed: int) -> float:
    """Median seconds of an update of one expert, with its batch and augmentation."""
    images, dsa = TrainingImages(store.task), DSA(options.dsa)
    numbers = range(min(options.together, options.count))
    networks, streams = zip(*new_experts(options, store.task, numbers), strict=True)
    learner = learner_of(networks, options)
    batches = chain.from_iterable(epoch_batches(images, dsa, options.batch_size, streams) for _ in count())
    seconds: list[float] = []
    for _ in range(timed + 1):
        at = time.perf_counter()
        learner.update(next(batches)).tolist()  # wait for the device
        seconds.append(time.perf_counter() - at)
    return statistics.median(seconds[1:]) / len(numbers)

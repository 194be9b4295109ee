"""Training the missing experts of a store, one by one or several at once.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, section 3.1: networks of
different initialisation trained on all real images with SGD, their weights kept before training and after every epoch.
DSA draws one operation per update and its parameters per image, as in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network, Task, TrainingReporter
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.store.expert_files import as_stored
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings, TrainingOptions
from ld3m_plugin.objectives.mtt.store.learners import Batch, check_stackable, learner_of
from ld3m_plugin.objectives.mtt.store.store_folder import Store, store_of
from ld3m_plugin.objectives.mtt.store.store_identity import shapes_of
from ld3m_plugin.objectives.mtt.store.training_images import TrainingImages
from ld3m_plugin.randomness import lent_to_global, spawn, stream

_REPORTED = 10  # updates from one report to the next


def train_experts(
    root: Path,
    task: Task,
    options: TrainingOptions,
    *,
    first: int = 0,
    reporter: TrainingReporter | None = None,
) -> Path:
    """Train the missing experts from `first` to `options.count` - 1; returns the folder.

    Expert i is a function of the seed and of i. A finished expert is trained again only if it has too few epochs. What is
    refused before the training changes nothing.

    Raises:
        ExpertError: the folder is not this store's, a file in it is damaged, an imported expert has too few epochs, weights
            are not finite, or a file cannot be written.
        UsageError: the store's experts have another dtype; the root is a file; the network has batch norm or cannot be
            trained `together`.
    """
    store = store_of(root, task, options.settings())
    store.check(options.dtype)
    check_together(store.task, options)
    wanted = range(first, options.count)
    missing = missing_experts(store, wanted, options.last_epoch)
    if missing:
        store.check_place()
    training = _Training(store, options, TrainingImages(task), reporter or TrainingReporter())
    if store.folder.exists():  # a new one is made for the first expert that is finished
        store.prepare(options.count, options.last_epoch, options.dtype)
    training.run(missing, len(wanted) - len(missing))
    return store.folder


def missing_experts(store: Store, wanted: Sequence[int], last_epoch: int) -> list[int]:
    """The numbers of `wanted` whose experts are missing or end before `last_epoch`.

    Raises:
        ExpertError: an imported one ends before: training would replace it by another expert.
    """
    missing = []
    for number in wanted:
        header = store.header(number)
        if header is None or header.epochs[-1] < last_epoch:
            missing.append(number)
            if header is not None and header.imported:
                raise ExpertError(
                    f"{store.folder}: expert {number} was imported and ends at epoch {header.epochs[-1]}: give "
                    f"--epochs {header.epochs[-1]}, or another --root"
                )
    return missing


def check_together(task: Task, options: TrainingOptions) -> None:
    """Raise `InvalidOptionError` if experts are to be trained together and the network does not allow it."""
    if options.together > 1:
        check_stackable(random_network(options, task, torch.Generator()).train(), options)


def new_experts(settings: ExpertSettings, task: Task, numbers: Sequence[int]) -> list[tuple[Network, torch.Generator]]:
    """Initialised networks, each with the random stream of its training."""
    streams = [stream(settings.seed, "expert", number) for number in numbers]
    return [(random_network(settings, task, rng), rng) for rng in streams]


def epoch_batches(
    images: TrainingImages, dsa: DSA, batch_size: int, streams: Sequence[torch.Generator]
) -> Iterator[list[Batch]]:
    """One epoch of several experts: at each update one batch per expert, each with its own order and augmentation."""
    orders = [images.batches(batch_size, rng) for rng in streams]
    for batches in zip(*orders, strict=True):
        yield [(dsa(pictures, rng=rng), labels) for (pictures, labels), rng in zip(batches, streams, strict=True)]


@dataclass
class _Training:
    """The training of the experts of one store, and how many updates are done."""

    store: Store
    options: TrainingOptions
    images: TrainingImages
    reporter: TrainingReporter
    done: int = 0

    @property
    def updates(self) -> int:
        """Updates of one expert in one epoch."""
        return math.ceil(len(self.images) / self.options.batch_size)

    def run(self, missing: Sequence[int], finished: int) -> None:
        """Train the missing experts, `together` at a time; `finished` others are done."""
        an_expert = self.updates * self.options.last_epoch
        self.done = finished * an_expert
        if missing:
            self.reporter.phase("experts", (len(missing) + finished) * an_expert, self.done)
        for start in range(0, len(missing), self.options.together):
            numbers = missing[start : start + self.options.together]
            # Another process may have finished some of them meanwhile.
            left = missing_experts(self.store, numbers, self.options.last_epoch)
            self.done += (len(numbers) - len(left)) * an_expert
            if left:
                self._train(left)

    def _train(self, numbers: Sequence[int]) -> None:
        """Train these experts together, and write their files."""
        options, task = self.options, self.store.task
        networks, streams = zip(*new_experts(options, task, numbers), strict=True)
        if shapes_of(networks[0]) != self.store.shapes:
            raise ExpertError(
                f"network {options.network!r} has other parameters each time it is made: it cannot be an expert"
            )
        learner, dsa = learner_of(networks, options), DSA(options.dsa)
        # Spawned for each expert, to keep their streams the same; only one network alone draws from it.
        dropout = [spawn(rng) for rng in streams]
        rows, losses = [self._stored(learner.rows(), numbers, 0)], []
        with lent_to_global(dropout[0], task.device):
            for epoch in range(1, options.last_epoch + 1):
                sums = torch.zeros(len(numbers))
                for batches in epoch_batches(self.images, dsa, options.batch_size, streams):
                    found = learner.update(batches)
                    sums += found.cpu()
                    self._report(numbers, epoch, found)
                losses.append(sums / self.updates)
                rows.append(self._stored(learner.rows(), numbers, epoch))
        for index, number in enumerate(numbers):
            self._write(number, torch.stack([row[index] for row in rows]), [float(loss[index]) for loss in losses])

    def _report(self, numbers: Sequence[int], epoch: int, losses: Tensor) -> None:
        before = self.done
        self.done += len(numbers)
        if before // _REPORTED != self.done // _REPORTED or self.done % self.updates == 0:
            values = {"expert": float(numbers[0]), "epoch": float(epoch), "loss": float(losses.mean())}
            self.reporter.step(self.done, values)

    def _stored(self, rows: Tensor, numbers: Sequence[int], epoch: int) -> Tensor:
        names = [f"expert {number} after epoch {epoch}" for number in numbers]
        return as_stored(rows, self.options.dtype, names, f"lower -S rate (it is {self.options.rate:g})")

    def _write(self, number: int, rows: Tensor, losses: list[float]) -> None:
        store, options = self.store, self.options
        if not missing_experts(store, [number], options.last_epoch):  # another process trained or imported it meanwhile
            return
        if not store.folder.exists():
            store.prepare(options.count, options.last_epoch, options.dtype)
        store.add(number, rows, losses=losses)

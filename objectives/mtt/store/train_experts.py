"""Training experts: what is missing in a store, expert by expert or several at once.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, section 3.1: networks of
different initialisation trained on all real images with SGD, their weights kept before training and after every epoch.
Under DSA one operation is drawn for each update and its numbers for each image, as in the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network, Task, TrainingReporter
from ld3m_plugin.errors import ExpertError
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.store.expert_files import DTYPES, Header, digests_of, write_expert
from ld3m_plugin.objectives.mtt.store.expert_settings import ExpertSettings, TrainingOptions
from ld3m_plugin.objectives.mtt.store.learners import Batch, check_stackable, learner_of
from ld3m_plugin.objectives.mtt.store.store_folder import Store, store_of
from ld3m_plugin.objectives.mtt.store.store_identity import decisive, shapes_of
from ld3m_plugin.objectives.mtt.store.training_images import TrainingImages
from ld3m_plugin.randomness import lent_to_global, spawn, stream

_REPORTED = 10


def train_experts(
    root: Path,
    task: Task,
    options: TrainingOptions,
    *,
    first: int = 0,
    reporter: TrainingReporter | None = None,
) -> Path:
    """Train the experts from `first` to `options.count` − 1 that are missing; returns the folder.

    Expert number i is a function of the seed and of i. One that is finished is never trained again, unless it has fewer
    epochs than are asked for now.

    What is refused before the training changes nothing.

    Raises:
        ExpertError: the folder is somebody else's, a file in it is damaged, an imported expert has too few epochs, weights
            are not finite, or a file cannot be written.
        UsageError: the experts that are there are of another dtype; the root is a file; the network has batch norm or cannot
            be trained `together`.
    """
    store = store_of(root, task, options.settings())
    store.check(options.dtype)
    check_together(store.task, options)
    wanted = range(first, options.count)
    missing = missing_experts(store, wanted, options.last_epoch)
    work = _Work(store, options, TrainingImages(task), reporter or TrainingReporter())
    if store.folder.exists():  # a new one is made for the first expert that is finished
        work.prepare()
    work.begin(len(missing), len(wanted) - len(missing))
    for start in range(0, len(missing), options.together):
        work.train(missing[start : start + options.together])
    return store.folder


def missing_experts(store: Store, wanted: Sequence[int], last_epoch: int) -> list[int]:
    """The numbers of `wanted` that are not there with all epochs up to `last_epoch`.

    Raises:
        ExpertError: an imported one has fewer epochs: training would put another expert in its place.
    """
    missing = []
    for number in wanted:
        header = store.header(number)
        if header is None or header.epochs[-1] < last_epoch:
            missing.append(number)
            if header is not None and header.imported:
                raise ExpertError(
                    f"{store.folder}: expert {number} was imported and ends at epoch {header.epochs[-1]}: ask for no more "
                    f"with --epochs {header.epochs[-1]}, or train into another --root"
                )
    return missing


def check_together(task: Task, options: TrainingOptions) -> None:
    """Raise `InvalidOptionError` if experts are to be trained together, and the network cannot be."""
    if options.together > 1:
        check_stackable(random_network(options, task, torch.Generator()).train(), options)


def updates_an_epoch(images: int, batch_size: int) -> int:
    """How many updates show every image once.

    >>> updates_an_epoch(12000, 256), updates_an_epoch(256, 256)
    (47, 1)
    """
    return -(-images // batch_size)


def new_experts(settings: ExpertSettings, task: Task, numbers: Sequence[int]) -> list[tuple[Network, torch.Generator]]:
    """Initialised networks, each with the stream that its training goes on to draw from."""
    streams = [stream(settings.seed, "expert", number) for number in numbers]
    return [(random_network(settings, task, rng), rng) for rng in streams]


def epoch_batches(
    images: TrainingImages, dsa: DSA, batch_size: int, streams: Sequence[torch.Generator]
) -> Iterator[list[Batch]]:
    """One epoch of several experts: at each update a batch for each, in its own order and under its own augmentation."""
    orders = [images.batches(batch_size, rng) for rng in streams]
    for batches in zip(*orders, strict=True):
        yield [(dsa(pictures, rng=rng), labels) for (pictures, labels), rng in zip(batches, streams, strict=True)]


@dataclass
class _Work:
    """What the training of every expert needs, and how far it is."""

    store: Store
    options: TrainingOptions
    images: TrainingImages
    reporter: TrainingReporter
    done: int = field(default=0, init=False)

    @property
    def updates(self) -> int:
        return updates_an_epoch(len(self.images), self.options.batch_size)

    @property
    def updates_an_expert(self) -> int:
        return self.updates * self.options.last_epoch

    def prepare(self) -> None:
        self.store.prepare(self.options.count, self.options.last_epoch, self.options.dtype)

    def begin(self, missing: int, finished: int) -> None:
        self.done = finished * self.updates_an_expert
        if missing:
            self.reporter.phase("experts", (missing + finished) * self.updates_an_expert, self.done)

    def train(self, numbers: Sequence[int]) -> None:
        """Train these experts together and write their files, but for those that another process finished meanwhile."""
        left = missing_experts(self.store, numbers, self.options.last_epoch)
        self.done += (len(numbers) - len(left)) * self.updates_an_expert
        if left:
            self._train(left)

    def _train(self, numbers: Sequence[int]) -> None:
        options, task = self.options, self.store.task
        networks, streams = zip(*new_experts(options, task, numbers), strict=True)
        if shapes_of(networks[0]) != self.store.shapes:
            raise ExpertError(
                f"network {options.network!r} has other parameters each time it is made: it cannot be an expert"
            )
        learner, dsa = learner_of(networks, options), DSA(options.dsa)
        # Of each expert, so that streams stay the same; one network alone may draw from it.
        dropout = [spawn(rng) for rng in streams]
        rows, losses = [learner.rows()], []
        self._check_finite(numbers, 0, rows[0])
        with lent_to_global(dropout[0], task.device):
            for epoch in range(1, options.last_epoch + 1):
                sums = torch.zeros(len(numbers))
                for batches in epoch_batches(self.images, dsa, options.batch_size, streams):
                    found = learner.update(batches)
                    sums += found.cpu()
                    self._report(numbers, epoch, found)
                losses.append(sums / self.updates)
                rows.append(learner.rows())
                self._check_finite(numbers, epoch, rows[-1])
        for index, number in enumerate(numbers):
            self._write(number, torch.stack([row[index] for row in rows]), [float(loss[index]) for loss in losses])

    def _report(self, numbers: Sequence[int], epoch: int, losses: Tensor) -> None:
        before = self.done
        self.done += len(numbers)
        if before // _REPORTED != self.done // _REPORTED or self.done % self.updates == 0:
            values = {"expert": float(numbers[0]), "epoch": float(epoch), "loss": float(losses.mean())}
            self.reporter.step(self.done, values)

    def _check_finite(self, numbers: Sequence[int], epoch: int, rows: Tensor) -> None:
        rate, dtype = self.options.rate, self.options.dtype
        for number, row in zip(numbers, rows, strict=True):
            if not torch.isfinite(row).all():
                raise ExpertError(
                    f"weights of expert {number} are not finite after epoch {epoch}: lower -S rate (it is {rate:g})"
                )
            if not torch.isfinite(row.to(DTYPES[dtype])).all():
                raise ExpertError(
                    f"weights of expert {number} are too large for {dtype} after epoch {epoch}: lower -S rate (it is {rate:g}), "
                    "or leave -S dtype out"
                )

    def _write(self, number: int, rows: Tensor, losses: list[float]) -> None:
        store, options = self.store, self.options
        if not missing_experts(store, [number], options.last_epoch):  # another process trained or imported it meanwhile
            return
        if not store.folder.exists():
            self.prepare()
        stored = rows.to(DTYPES[options.dtype])
        header = Header(
            key=store.key,
            settings=decisive(store.task, store.settings),
            expert=number,
            seed=options.seed,
            epochs=tuple(range(len(rows))),
            parameters=store.shapes,
            dtype=options.dtype,
            losses=tuple(losses),
            imported=False,
            source="trained",
            digests=digests_of(stored),
        )
        write_expert(store.folder, header, stored)

"""The data as a generator and an objective see it: facts, and real training images by class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import DataError
from ld3m_plugin.images.given_tensors import (
    Pair,
    as_tensor,
    checked_names,
    checked_statistics,
    dataset_statistics,
    dataset_tensors,
    given_images,
)
from ld3m_plugin.images.image_options import DataOptions, FileOptions, ImageOptions
from ld3m_plugin.images.images_by_class import ImagesByClass
from ld3m_plugin.images.whitening import Whitening
from ld3m_plugin.randomness import spawn, stream

__all__ = ["DataOptions", "DatasetFactory", "FileOptions", "ImageOptions", "ImagesByClass", "Task"]


@dataclass(frozen=True)
class Task:
    """Facts of a data set and its images.

    Attributes:
        name: as given to `load_task`.
        source: which copy of the data was used, for the record.
        class_names: K names, in label order.
        wordnet_ids: K WordNet ids, or None where they are not known.
        mean, std: per channel, of images scaled to [0, 1].
        train: real training images.
        device: where images are wanted.
        read_with: options of the data set that were given to `load_task`, for the record and for commands in messages.
        test_groups: a number for each test image, class by class: images with the same number belong together, such as those of
            one artist or one device. Intervals of a comparison then resample groups. None: each image is a group of its own.
        held_out: for each class, the numbers of the training images on which settings are chosen (`select_on=validation`), such
            as those that no prior was trained on. None: any of them; nothing for every class: none may be.
        held_out_groups: as `test_groups`, of these images.
        broader: for each class, the name that it has in a prior of the whole data set, of which the task is a part.
        whitening: what normalised images go through before anything sees them (`zca=true`): real ones in `normalise`, those of a
            generator by `whitened`. None: nothing.
        notes: what is wrong with the data and does not stop a run, one line each; `load_task` logs them as warnings.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    wordnet_ids: tuple[str | None, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    train: ImagesByClass
    test_images: ImagesByClass | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    read_with: Mapping[str, Any] = field(default_factory=dict)
    test_groups: tuple[int, ...] | None = field(default=None, repr=False)
    held_out: tuple[tuple[int, ...], ...] | None = field(default=None, repr=False)
    held_out_groups: tuple[int, ...] | None = field(default=None, repr=False)
    broader: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()
    whitening: Whitening | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_tensors(
        cls,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float] | float,
        std: Sequence[float] | float,
        class_names: Sequence[str] | None = None,
        *,
        test: Pair | None = None,
        name: str = "tensors",
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make a task of tensors that a script has.

        >>> pixels, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
        >>> Task.from_tensors(pixels, labels, 0.5, 0.25, ["night", "dusk"]).train.counts()
        (2, 2)

        Args:
            images: training images (n, C, H, H): uint8 pixels, or floats normalised with `mean` and `std`. Normalised images are
                kept as they are, as float32: not clipped, not rounded to pixels.
            labels: class indices (n,). Images and labels may be arrays of numpy as well, and labels a list.
            mean, std: a number for each channel, of pixels in [0, 1].
            class_names: in label order; default: `class 0`, `class 1`, ... A prior finds its classes by name.
            test: test images and labels, of the same kind. Without them only evaluation is refused.
            name: for records and tables.
            device: where images are wanted.

        Raises:
            DataError: something does not fit, or float images are not normalised; the message says which.
        """
        images, labels = as_tensor(images), as_tensor(labels)
        test = None if test is None else (as_tensor(test[0]), as_tensor(test[1]))
        means, stds = checked_statistics(mean, std)
        names = checked_names(labels, class_names)
        train = given_images((images, labels), means, names, "the training tensors")
        tested = None if test is None else given_images(test, means, names, "the test tensors")
        if tested is not None and tested.normalised != train.normalised:
            raise DataError("training images are pixels and test images normalised, or the reverse: give both alike")
        kind = "normalised float32" if train.normalised else "uint8"
        return cls(
            name=name,
            source=f"{len(images)} {kind} images of a caller",
            class_names=names,
            wordnet_ids=(None,) * len(names),
            mean=means,
            std=stds,
            image_size=images.shape[-1],
            train=train,
            test_images=tested,
            device=torch.device(device),
        )

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        class_names: Sequence[str] | None = None,
        *,
        test: Any = None,
        name: str | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Make a task of a torch data set (with `len`), whose items are pairs of an image and a class index; it is read once.

        Args:
            dataset: images are tensors (C, H, H) as for `from_tensors`, or pictures of PIL. A transform that draws
                random numbers is applied once.
            mean, std: default: those of a `Normalize` in the data set's transform.
            class_names: default: the data set's `classes`, if it has them.
            test: another data set, of test images.
            name: for records and tables; default: the name of its class.

        Raises:
            DataError: as `from_tensors`, or there are other items.
        """
        if mean is None or std is None:
            mean, std = dataset_statistics(dataset)
        images, labels = dataset_tensors(dataset)
        return cls.from_tensors(
            images,
            labels,
            mean,
            std,
            class_names or getattr(dataset, "classes", None),
            test=None if test is None else dataset_tensors(test),
            name=name or type(dataset).__name__,
            device=device,
        )

    def __repr__(self) -> str:
        """A line: name, classes, images and their form."""
        shape = f"{self.channels}x{self.image_size}x{self.image_size}"
        test = 0 if self.test_images is None else sum(self.test_images.counts())
        counts = f"{sum(self.train.counts())} training and {test} test images"
        return f"Task({self.name!r}, {self.num_classes} classes, {counts} of {shape}, on {self.device})"

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def described(self) -> str:
        """The line that a command shows before it works with the data."""
        return f"data: {self.source}"

    def check_classes(self) -> None:
        """Check that there is something to tell apart.

        Raises:
            DataError: there is one class alone; the message names it.
        """
        if self.num_classes < 2:
            raise DataError(
                f"data set {self.name!r} has one class alone, {self.class_names[0]!r}: networks learn to tell two or more apart; "
                f"add the images of another class ({self.train.origin})"
            )

    @property
    def test(self) -> ImagesByClass:
        """The test set, for evaluation alone.

        Raises:
            DataError: asked from a generator or an objective, or there is none.
        """
        if self.test_images is None:
            raise DataError(f"the test set of {self.name!r} is out of reach here: only evaluation may read it")
        return self.test_images

    def for_training(self) -> Task:
        """The same task without its test set: what generators and objectives are given."""
        return replace(self, test_images=None, test_groups=None)

    def to(self, device: torch.device | str) -> Task:
        """The same task with images wanted on `device`."""
        return replace(self, device=torch.device(device))

    def normalise(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) as `train` gives them, or means of them, as normalised float32 on the task's device.

        They are whitened where the task whitens.
        """
        # Images of a plugin need not derive from the contract's class.
        if images.is_floating_point() and getattr(self.train, "normalised", False):
            return self.whitened(to_device(images, self.device).float())
        # Moved as bytes: a quarter of the traffic. One fused multiply-add does scaling and normalisation.
        shift, scale = self._normalisation
        return self.whitened(torch.addcmul(shift, to_device(images, self.device).float(), scale))

    @cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """Shift and scale (1, C, 1, 1) on the device: made once, since each copy of numbers to a device waits for it."""
        mean, std = (torch.tensor(values, device=self.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return -mean / std, 1 / (255 * std)

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised images (n, C, H, W) in the range [0, 1] of the data, not clipped."""
        mean, std = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return self.unwhitened(images) * std + mean

    def whitened(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W), normalised with mean and std, as networks see them: whitened, or the same without whitening."""
        return images if self.whitening is None else self.whitening(images)

    def unwhitened(self, images: Tensor) -> Tensor:
        """Undo `whitened`."""
        return images if self.whitening is None else self.whitening.undo(images)

    def real_images(self, class_index: int, count: int, rng: torch.Generator) -> Tensor:
        """`count` distinct training images of a class, drawn with `rng`: (count, C, H, W), normalised.

        Raises:
            DataError: the class has fewer images; the message names where they are.
        """
        available = self.train.counts()[class_index]
        if available < count:
            raise DataError(
                f"class {self.class_names[class_index]!r} has {available} images and {count} are asked for "
                f"({self.train.origin}): ask for fewer, or add images"
            )
        which = torch.randperm(available, generator=rng)[:count]
        return self.normalise(self.train.read_to(class_index, which, self.device))

    def real_images_of(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """A real training image for each label, distinct within a class: (N, C, H, W), normalised.

        Args:
            labels: class indices (N,).

        Raises:
            DataError: a class has fewer images than there are labels of it.
        """
        return self.by_class(labels, rng, self.real_images)

    def by_class(
        self, labels: Tensor, rng: torch.Generator, make: Callable[[int, int, torch.Generator], Tensor]
    ) -> Tensor:
        """Rows of `make(class_index, count, rng)` for each label: (N, ...), on the task's device, in the order of `labels`.

        Args:
            labels: class indices (N,).
            make: called once a class, with a stream of its own; gives `count` rows.
        """
        seed = spawn(rng).initial_seed()  # a stream for each class: other classes and counts change nothing
        made = torch.empty(0)
        for class_index in labels.unique().tolist():
            rows = to_device((labels == class_index).nonzero().squeeze(1), self.device)
            some = make(class_index, len(rows), stream(seed, class_index))
            made = made if len(made) else torch.empty(len(labels), *some.shape[1:], device=self.device)
            made[rows] = some.to(self.device)
        return made


#: What `register_datasets` registers: the part of `--data NAME:ARGUMENT` after the colon ("" without one), and its options.
DatasetFactory = Callable[[str, Any], Task]

"""Quality of a generative model's images, measured by a judge (`train_judge`) and compared with real images.

The model may be of any kind: here it is a function from labels and a random stream to images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.budgets import images_at_once
from ld3m_plugin.contracts import ImagesByClass, Network, Task
from ld3m_plugin.data.numbered_images import evenly_spaced
from ld3m_plugin.errors import DataError, InvalidOptionError, PriorError
from ld3m_plugin.priors.quality.frechet import fit_gaussian, frechet_distance, nearest_distance, variance
from ld3m_plugin.priors.quality.quality_report import ClassQuality, Quality, Reconstruction
from ld3m_plugin.randomness import spawn

#: Labels (n,) on the task's device and a stream on the CPU -> normalised images (n, C, H, W), of any device.
Sample = Callable[[Tensor, torch.Generator], Tensor]
#: Normalised images (n, C, H, W) -> their reconstructions, of the same shape.
Reconstruct = Callable[[Tensor], Tensor]

#: A number of samples and of real images.
_Pair = tuple[float, float]

_BUDGET = 1.0  # GiB for the judge's activations
_LARGEST_BATCH = 256
# Real images that are closer than this, in units of float32 features or of pixels, are all the same.
_ALIKE = 1e-6


@dataclass(frozen=True)
class _Seen:
    """Images of one class: features (n, F) on the CPU, correct classifications, and the variance of their pixels."""

    features: Tensor
    correct: int
    pixel_variance: float


@torch.no_grad()
def measure_quality(
    judge: Network,
    task: Task,
    sample: Sample,
    per_class: int,
    rng: torch.Generator,
    *,
    sample_batch: int = 100,
    reconstruction: Reconstruction | None = None,
    on_class: Callable[[str], None] = lambda _: None,
) -> Quality:
    """Sample a model and compare it with real images.

    Args:
        judge: trained on the task's real images; it must give features.
        task: with its test set.
        sample: called for one class at a time, in label order, without a graph. Values outside the range of pixels are not
            clipped.
        per_class: samples of each class, at least 2 and at most the number of its training images.
        rng: draws the training images of the reference and the samples.
        sample_batch: samples of one call; other sizes draw other samples.
        reconstruction: result of `reconstruction_error`, for the report.
        on_class: called with the name of each class before it is sampled.

    Raises:
        InvalidOptionError: `per_class` or `sample_batch` out of range.
        DataError: a class with too few training or test images.
        PriorError: samples that are not finite or of another shape.
    """
    _at_least(2, per_class=per_class)
    _at_least(1, sample_batch=sample_batch)
    check_data(task, per_class)
    judge.eval()
    blank = torch.zeros(1, task.channels, task.image_size, task.image_size, device=task.device)
    batch = min(_LARGEST_BATCH, images_at_once(judge.embed, blank, _BUDGET))
    train_rng, sample_rng, pair_rng = spawn(rng), spawn(rng), spawn(rng)
    train, test, samples = [], [], []
    for k, name in enumerate(task.class_names):
        on_class(name)
        chosen = torch.randperm(task.train.counts()[k], generator=train_rng)[:per_class]
        every = torch.arange(task.test.counts()[k])
        train.append(_see(judge, task, k, _real(task, task.train, k, chosen, batch)))
        test.append(_see(judge, task, k, _real(task, task.test, k, every, batch)))
        drawn = _samples(sample, task, k, per_class, sample_batch, sample_rng)
        samples.append(_see(judge, task, k, (part for images in drawn for part in images.split(batch))))
    return replace(_summary(task, train, test, samples, pair_rng), reconstruction=reconstruction)


@torch.no_grad()
def reconstruction_error(
    task: Task, reconstruct: Reconstruct, per_class: int | None = None, batch_size: int = 100
) -> Reconstruction:
    """Measure the error of `reconstruct` on real test images.

    Args:
        per_class: number of images of each class, evenly spaced over it; default: all. A class with fewer keeps all it has.
        batch_size: images at once.

    Raises:
        InvalidOptionError: a number below 1.
        DataError: there is no test image.
        PriorError: images that are not finite or of another shape.
    """
    _at_least(1, per_class=per_class, batch_size=batch_size)
    total, images = 0.0, 0
    for k, count in enumerate(task.test.counts()):
        for real in _real(task, task.test, k, evenly_spaced(count, per_class), batch_size):
            made = _checked(reconstruct(real), real.shape, task, "reconstructions")
            error = task.denormalise(made).double() - task.denormalise(real).double()
            total, images = total + float(error.square().sum()), images + len(real)
    if images == 0:
        raise DataError(f"there is no test image ({task.test.origin}): add some")
    return Reconstruction(total / (images * task.channels * task.image_size**2), images)


def name_without_path(name: str) -> str:
    """Remove the folders from the argument of a data set's name: reports are shared, paths are private.

    >>> [name_without_path(name) for name in ("imagefolder:/home/me/birds/", "fashion-mnist:embedded", "cifar10")]
    ['imagefolder:birds', 'fashion-mnist:embedded', 'cifar10']
    """
    base, separator, argument = name.partition(":")
    return base + separator + Path(argument).name


def check_data(task: Task, per_class: int = 2) -> None:
    """Check that every class has enough images for the quality report: `per_class` training images and 2 test images.

    Raises:
        DataError: there is no test set, or a class has fewer.
    """
    for kind, source, needed in (("training", task.train, per_class), ("test", task.test, 2)):
        for name, count in zip(task.class_names, source.counts(), strict=True):
            if count < needed:
                raise DataError(
                    f"class {name!r} has {count} {kind} images ({source.origin}) and the quality report needs {needed}: "
                    "add images, leave the class out, or ask for fewer samples a class"
                )


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise InvalidOptionError(f"quality report: {name} = {value!r}: must be at least {least}")


def _real(task: Task, source: ImagesByClass, class_index: int, which: Tensor, batch: int) -> Iterator[Tensor]:
    for part in which.split(batch):
        if len(part):  # splitting nothing gives one empty part
            yield task.normalise(source.read(class_index, part))


def _samples(
    sample: Sample, task: Task, class_index: int, count: int, batch: int, rng: torch.Generator
) -> Iterator[Tensor]:
    for labels in torch.full((count,), class_index, device=task.device).split(batch):
        expected = torch.Size((len(labels), task.channels, task.image_size, task.image_size))
        yield _checked(sample(labels, rng), expected, task, f"samples of class {task.class_names[class_index]!r}")


def _checked(images: Tensor, shape: torch.Size, task: Task, what: str) -> Tensor:
    if images.shape != shape:
        raise PriorError(
            f"{what} have shape {tuple(images.shape)} and not {tuple(shape)}: choose a model that was made for such images"
        )
    if not torch.isfinite(images).all():
        raise PriorError(f"{what} are not finite: train the model again")
    return images.detach().to(task.device, torch.float32)


def _see(judge: Network, task: Task, class_index: int, batches: Iterable[Tensor]) -> _Seen:
    features, correct = [], 0
    # Running sums: the pixels of all images of a class may not fit in memory.
    pixel_sum, square_sum = torch.zeros((), dtype=torch.float64), 0.0
    for images in batches:
        features.append(judge.embed(images).flatten(1).float().cpu())
        correct += int((judge(images).argmax(1) == class_index).sum())
        pixels = task.denormalise(images).flatten(1).cpu().double()
        pixel_sum, square_sum = pixel_sum + pixels.sum(0), square_sum + float(pixels.square().sum())
    seen = torch.cat(features)
    scatter = square_sum - float(pixel_sum.square().sum()) / len(seen)
    return _Seen(seen, correct, max(0.0, scatter / (len(seen) - 1)))


def _summary(
    task: Task, train: Sequence[_Seen], test: Sequence[_Seen], samples: Sequence[_Seen], rng: torch.Generator
) -> Quality:
    spreads = [_spreads(made, real, rng) for made, real in zip(samples, test, strict=True)]
    classes = [
        _row(name, [made], [real], [spread])
        for name, made, real, spread in zip(task.class_names, samples, test, spreads, strict=True)
    ]
    target = fit_gaussian([seen.features for seen in test])
    frechet, real_frechet = (
        frechet_distance(*fit_gaussian([seen.features for seen in group]), *target) for group in (samples, train)
    )
    return Quality(
        overall=_row("all", samples, test, spreads),
        classes=tuple(classes),
        frechet=frechet,
        real_frechet=real_frechet,
        samples=sum(len(seen.features) for seen in samples),
        test_images=sum(len(seen.features) for seen in test),
        features=samples[0].features.shape[1],
        data=name_without_path(task.name),
        train_images=sum(task.train.counts()),
    )


def _spreads(made: _Seen, real: _Seen, rng: torch.Generator) -> tuple[_Pair, _Pair, _Pair]:
    """Of samples and real images of one class: variances of features, of pixels, and distances to the nearest image."""
    count = min(len(made.features), len(real.features))
    chosen = (seen.features[torch.randperm(len(seen.features), generator=rng)[:count]] for seen in (made, real))
    near_made, near_real = map(nearest_distance, chosen)
    return (
        (variance(made.features), variance(real.features)),
        (made.pixel_variance, real.pixel_variance),
        (near_made, near_real),
    )


def _row(
    name: str, made: Sequence[_Seen], real: Sequence[_Seen], spreads: Sequence[tuple[_Pair, _Pair, _Pair]]
) -> ClassQuality:
    features, pixels, nearest = zip(*spreads, strict=True)
    return ClassQuality(
        name=name,
        accuracy=_accuracy(made),
        real_accuracy=_accuracy(real),
        spread=_ratio(features, math.sqrt),
        pixel_spread=_ratio(pixels, math.sqrt),
        nearest=_ratio(nearest, float),
    )


def _accuracy(classes: Sequence[_Seen]) -> float:
    return 100 * sum(seen.correct for seen in classes) / sum(len(seen.features) for seen in classes)


def _ratio(pairs: Sequence[_Pair], unit: Callable[[float], float]) -> float | None:
    made, real = (unit(sum(values) / len(pairs)) for values in zip(*pairs, strict=True))
    return made / real if real > _ALIKE else None

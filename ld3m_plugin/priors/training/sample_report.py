"""Samples, quality report and record of a trained prior."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.pictures import Names, save_grid
from ld3m_plugin.contracts import ImagesByClass, TrainingReporter
from ld3m_plugin.data.numbered_images import evenly_spaced
from ld3m_plugin.priors.prior_json import TRAINING
from ld3m_plugin.priors.quality.judge import JudgeRecipe, train_judge
from ld3m_plugin.priors.quality.measure import Reconstruct, measure_quality, name_without_path, reconstruction_error
from ld3m_plugin.priors.training.training_options import PriorTrainingOptions
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import versions, write_json, write_text
from ld3m_plugin.task import Task

#: Normalised images (n, C, H, W) of classes (n,), on the CPU, drawn from a stream.
Sampler = Callable[[Tensor, torch.Generator], Tensor]

SAMPLES, RECONSTRUCTION = "samples.png", "reconstruction.png"
_SHOWN_PER_CLASS = 8
_SHOWN_REAL = 3
_STRIP = 10
_SHOWN_CLASSES = 20
_SAMPLED_AT_ONCE = 100


def save_samples(sample: Sampler, task: Task, path: Path) -> None:
    """Write a picture with a row for each of the first 20 classes: three real images, and samples from always the same noise."""
    shown = min(task.num_classes, _SHOWN_CLASSES)
    labels = torch.arange(shown).repeat_interleave(_SHOWN_PER_CLASS)
    rng = stream(0, "shown")
    with torch.no_grad():
        parts = [sample(part, rng) for part in labels.split(_SAMPLED_AT_ONCE)]
    made = task.denormalise(torch.cat(parts)).cpu().unflatten(0, (shown, _SHOWN_PER_CLASS))
    rows = torch.cat([torch.stack([_real(task, task.train, k, _SHOWN_REAL) for k in range(shown)]), made], 1)
    columns = ["real"] * _SHOWN_REAL + ["sample"] * _SHOWN_PER_CLASS
    save_grid(rows.flatten(0, 1), path, len(columns), Names(rows=task.class_names[:shown], columns=columns))


def save_reconstructions(reconstruct: Reconstruct, task: Task, path: Path) -> None:
    """Write a strip: a test image of each of the first 10 classes, and below it what `reconstruct` makes of it."""
    shown = min(task.num_classes, _STRIP)
    images = torch.cat([_shown(task, task.test, k, 1) for k in range(shown)])
    with torch.no_grad():
        made = reconstruct(images)
    named = Names(rows=("real", "reconstructed"), columns=task.class_names[:shown])
    save_grid(task.denormalise(torch.cat([images, made])).clamp(0, 1).cpu(), path, shown, named)


def _real(task: Task, source: ImagesByClass, class_index: int, count: int) -> Tensor:
    """`count` evenly spaced images of a class in [0, 1], white ones where it has fewer."""
    images = task.denormalise(_shown(task, source, class_index, count)).clamp(0, 1).cpu()
    blank = torch.ones(count - len(images), task.channels, task.image_size, task.image_size)
    return torch.cat([images, blank])


def _shown(task: Task, source: ImagesByClass, class_index: int, count: int) -> Tensor:
    """Up to `count` evenly spaced images of a class, normalised."""
    return task.normalise(source.read(class_index, evenly_spaced(source.counts()[class_index], count)))


def record_training(
    out: Path,
    task: Task,
    options: PriorTrainingOptions,
    seed: int,
    seconds: Mapping[str, float],
    started_from: Mapping[str, Any] | None = None,
) -> None:
    """Write `training.json`: options, seed, data, seconds and versions of a training, and the prior that it fine-tuned."""
    record = {
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "data": name_without_path(task.name),
        "images": sum(task.train.counts()),
        **({} if started_from is None else {"started_from": dict(started_from)}),
        "seconds": dict(seconds),
        "threads": torch.get_num_threads(),
        "device": str(task.device),
        "versions": versions(),
    }
    write_json(out / TRAINING, record)


def report(
    sample: Sampler,
    task: Task,
    options: PriorTrainingOptions,
    seed: int,
    out: Path,
    reporter: TrainingReporter,
    sha256: str,
    how: Mapping[str, Any],
    reconstruct: Reconstruct | None = None,
) -> None:
    """Write `samples.png`, `reconstruction.png`, `quality.json` and `quality.md`. The prior can be used before.

    Args:
        sample: draws from the weights as they are stored.
        sha256: digest of the prior.
        how: settings of `sample`, for the record.
        reconstruct: what the prior's autoencoder makes of images, if it has one.
    """
    reporter.say(f"the prior can be used already: {out}; its quality report follows")
    reconstruction = None
    if reconstruct is not None:
        save_reconstructions(reconstruct, task, out / RECONSTRUCTION)
        reconstruction = reconstruction_error(task, reconstruct)
    save_samples(sample, task, out / SAMPLES)
    recipe = JudgeRecipe(epochs=options.judge_epochs, least_steps=options.judge_least_steps)
    reporter.phase("quality report: classifier", recipe.passes(sum(task.train.counts())), unit="epoch")
    judge = train_judge(
        task, stream(seed, "judge"), recipe, on_epoch=lambda epoch, loss: reporter.step(epoch, {"loss": loss})
    )
    reporter.phase("quality report: samples", task.num_classes, unit="class")
    begun = itertools.count()
    quality = measure_quality(
        judge,
        task,
        lambda labels, rng: sample(labels.cpu(), rng),
        min(options.report_per_class, *task.train.counts()),
        stream(seed, "quality"),
        sample_batch=_SAMPLED_AT_ONCE,
        reconstruction=reconstruction,
        on_class=lambda _: reporter.step(next(begun), {}),
    )
    reporter.step(task.num_classes, {})
    quality.write(out / "quality.json", prior_sha256=sha256, sampling=dict(how), judge=recipe.model_dump(mode="json"))
    pictures = [f"![Real images and samples of each class]({SAMPLES})"]
    if reconstruct is not None:
        pictures.append(f"![Test images and their reconstructions]({RECONSTRUCTION})")
    write_text(out / "quality.md", "\n\n".join([quality.to_markdown().rstrip(), *pictures]) + "\n")
    for line in filter(None, quality.to_markdown().splitlines()):
        reporter.say(line)

"""Samples, quality report and record of a trained prior."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.pictures import save_grid
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.priors.prior_json import TRAINING
from ld3m_plugin.priors.quality.judge import JudgeRecipe, train_judge
from ld3m_plugin.priors.quality.measure import measure_quality, name_without_path
from ld3m_plugin.priors.quality.quality_report import Reconstruction
from ld3m_plugin.priors.training.training_options import PriorTrainingOptions
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import versions, write_json, write_text
from ld3m_plugin.task import Task

#: Normalised images (n, C, H, W) of classes (n,), on the CPU, drawn from a stream.
Sampler = Callable[[Tensor, torch.Generator], Tensor]

_SHOWN_PER_CLASS = 8
_SHOWN_CLASSES = 20
_SAMPLED_AT_ONCE = 100


def save_samples(sample: Sampler, task: Task, path: Path) -> None:
    """Write a picture with a row of samples for each of the first 20 classes, always from the same noise."""
    labels = torch.arange(min(task.num_classes, _SHOWN_CLASSES)).repeat_interleave(_SHOWN_PER_CLASS)
    rng = stream(0, "shown")
    with torch.no_grad():
        parts = [sample(part, rng) for part in labels.split(_SAMPLED_AT_ONCE)]
    save_grid(task.denormalise(torch.cat(parts)), path, _SHOWN_PER_CLASS)


def record_training(
    out: Path, task: Task, options: PriorTrainingOptions, seed: int, seconds: Mapping[str, float]
) -> None:
    """Write `training.json`: options, seed, data, seconds and versions of a training."""
    record = {
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "data": name_without_path(task.name),
        "images": sum(task.train.counts()),
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
    reconstruction: Reconstruction | None = None,
) -> None:
    """Write `samples.png`, `quality.json` and `quality.md`.

    Args:
        sample: draws from the weights as they are stored.
        sha256: digest of the prior.
        how: settings of `sample`, for the record.
        reconstruction: error of the autoencoder, if the prior has one.
    """
    save_samples(sample, task, out / "samples.png")
    recipe = JudgeRecipe(epochs=options.judge_epochs, least_steps=options.judge_least_steps)
    reporter.phase("judge", recipe.passes(sum(task.train.counts())))
    judge = train_judge(
        task, stream(seed, "judge"), recipe, on_epoch=lambda epoch, loss: reporter.step(epoch, {"loss": loss})
    )
    reporter.phase("samples", task.num_classes)
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
    write_text(out / "quality.md", quality.to_markdown())
    reporter.say(quality.to_markdown())

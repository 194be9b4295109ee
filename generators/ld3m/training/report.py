"""Samples of a prior, and how good they are."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.contracts import PriorReporter
from ld3m_plugin.errors import DataError
from ld3m_plugin.evaluation.judge import JudgeRecipe, train_judge
from ld3m_plugin.evaluation.quality import measure_quality, reconstruction_error
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.folder import digest
from ld3m_plugin.generators.ld3m.prior import Prior
from ld3m_plugin.generators.ld3m.sampler import Sampling, sample
from ld3m_plugin.generators.ld3m.schedule import make_chain
from ld3m_plugin.generators.ld3m.training.options import LdmTrainingOptions
from ld3m_plugin.pictures import save_grid
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import write_text
from ld3m_plugin.task import Task

_SHOWN_PER_CLASS = 8
_SHOWN_CLASSES = 20
_SAMPLED_AT_ONCE = 100


@torch.no_grad()
def draw_samples(
    prior: Prior, task: Task, labels: Tensor, rng: torch.Generator, guidance_scale: float, steps: int
) -> Tensor:
    """Normalised images (n, C, H, W) of rows `labels` (n,) of the prior's classes: plain DDIM from Gaussian noise."""
    assert prior.levels is not None  # noqa: S101 (for the type checker: a prior with a U-Net)
    grid = task.image_size // prior.codec.factor
    noise = torch.randn(len(labels), prior.codec.latent_channels, grid, grid, generator=rng).to(task.device)
    embedding = null = None
    if prior.class_embedding is not None:
        embedding = prior.class_embedding[labels.to(task.device)][:, None]
        null = None if prior.facts.null_class is None else prior.class_embedding[prior.facts.null_class].view(1, 1, -1)
    sampling = Sampling(
        make_chain(prior.levels, steps, "trailing"), "none", guidance_scale if null is not None else 1.0
    )
    clean = sample(prior.predict, sampling, torch.zeros_like(noise), noise, embedding=embedding, null_embedding=null)
    return PictureSpace(task, prior.codec.channels, "hard").images(prior.codec.decode(clean))


def save_samples(prior: Prior, task: Task, options: LdmTrainingOptions, path: Path) -> None:
    """A picture with a row of samples for each of the first classes, always of the same noise."""
    labels = torch.arange(min(task.num_classes, _SHOWN_CLASSES)).repeat_interleave(_SHOWN_PER_CLASS)
    rng = stream(0, "shown")
    parts = [
        draw_samples(prior, task, part, rng, options.guidance_scale, options.sample_steps)
        for part in labels.split(_SAMPLED_AT_ONCE)
    ]
    save_grid(task.denormalise(torch.cat(parts)), path, _SHOWN_PER_CLASS)


def check_data(task: Task) -> None:
    """Whether the data suffices for the report, asked before hours of training.

    Raises:
        DataError: there is no test set, or a class with fewer than two training or test images.
    """
    for kind, source in (("training", task.train), ("test", task.test)):
        for name, count in zip(task.class_names, source.counts(), strict=True):
            if count < 2:
                raise DataError(
                    f"class {name!r} has {count} {kind} images ({source.origin}) and a prior with its quality report "
                    "needs 2: add images, or leave the class out"
                )


def report(
    prior: Prior, task: Task, options: LdmTrainingOptions, seed: int, out: Path, reporter: PriorReporter
) -> None:
    """Write `samples.png`, `quality.json` and `quality.md`: measured on the weights as they are stored."""
    save_samples(prior, task, options, out / "samples.png")
    space = PictureSpace(task, prior.codec.channels, "hard")
    reconstruction = reconstruction_error(
        task, lambda x: space.images(prior.codec.decode(prior.codec.encode(space.pictures(x))))
    )
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
        lambda labels, rng: draw_samples(prior, task, labels.cpu(), rng, options.guidance_scale, options.sample_steps),
        min(options.report_per_class, *task.train.counts()),
        stream(seed, "quality"),
        sample_batch=_SAMPLED_AT_ONCE,
        reconstruction=reconstruction,
        on_class=lambda _: reporter.step(next(begun), {}),
    )
    reporter.step(task.num_classes, {})
    how = {"guidance_scale": options.guidance_scale, "sample_steps": options.sample_steps}
    quality.write(out / "quality.json", prior_sha256=digest(out), sampling=how, judge=recipe.model_dump(mode="json"))
    write_text(out / "quality.md", quality.to_markdown())
    reporter.say(quality.to_markdown())

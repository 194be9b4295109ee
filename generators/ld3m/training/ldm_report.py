"""Samples of a latent diffusion prior, and how good they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import Prior
from ld3m_plugin.generators.ld3m.sampler import Sampling, sample
from ld3m_plugin.generators.ld3m.schedule import make_chain
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.priors.quality.measure import reconstruction_error
from ld3m_plugin.priors.training import sample_report as shared
from ld3m_plugin.task import Task


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


def sampler(prior: Prior, task: Task, options: LdmTrainingOptions) -> shared.Sampler:
    """Samples of the prior as they are shown and reported."""
    return lambda labels, rng: draw_samples(prior, task, labels, rng, options.guidance_scale, options.sample_steps)


def report(
    prior: Prior, task: Task, options: LdmTrainingOptions, seed: int, out: Path, reporter: TrainingReporter
) -> None:
    """Write `samples.png`, `quality.json` and `quality.md`: measured on the weights as they are stored."""
    space = PictureSpace(task, prior.codec.channels, "hard")
    reconstruction = reconstruction_error(
        task, lambda x: space.images(prior.codec.decode(prior.codec.encode(space.pictures(x))))
    )
    how = {"guidance_scale": options.guidance_scale, "sample_steps": options.sample_steps}
    sample = sampler(prior, task, options)
    shared.report(sample, task, options, seed, out, reporter, digest(out), how, reconstruction)

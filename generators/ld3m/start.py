"""Steps that generators with a prior share: check sizes, make start latents, record the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.budgets import images_at_once
from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.ld3m_options import PriorOptions
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import FrozenAutoencoder

_ENCODER_BUDGET = 2.0  # GiB; at 256 pixels, all images at once would not fit


def check_size(task: Task, prior: FrozenAutoencoder) -> None:
    """Check that the prior can make images of the task's channels and size; raises `InvalidOptionError`."""
    made, wanted = prior.codec.channels, task.channels
    if made != wanted and {made, wanted} != {1, 3}:
        raise InvalidOptionError(
            f"this prior makes pictures of {made} channels, the task has {wanted}: only 1 and 3 channels are converted into "
            f"each other; use a prior of {wanted}"
        )
    check_multiple(task, prior.downsampling)


def check_multiple(task: Task, factor: int, alternative: str = "or another prior") -> None:
    """Check that the task's image size is a multiple of `factor`; raises `InvalidOptionError`."""
    if task.image_size % factor:
        raise InvalidOptionError(
            f"image size {task.image_size}: this prior downsamples by {factor}: the image size must be a multiple of "
            f"{factor}: give -D image_size={-(-task.image_size // factor) * factor}, {alternative}"
        )


def start_latents(
    task: Task, labels: Tensor, rng: torch.Generator, prior: FrozenAutoencoder, pictures: PictureSpace, init: str
) -> Tensor:
    """Make latents (N, L, h, w): encoded distinct real images of each label (`init` is `real`), or unit Gaussians."""
    if init == "real":
        images = task.real_images_of(labels, rng)

        def encode(some: Tensor) -> Tensor:
            return prior.codec.encode(pictures.pictures(some))

        size = images_at_once(encode, images[:1], _ENCODER_BUDGET)
        with torch.no_grad():
            return torch.cat([encode(some) for some in images.split(size)])
    grid = task.image_size // prior.codec.factor
    return torch.randn(len(labels), prior.codec.latent_channels, grid, grid, generator=rng).to(task.device)


def provenance(options: PriorOptions, prior: FrozenAutoencoder) -> dict[str, str]:
    """Facts about the prior for the artefact's metadata: name, digest, source, revision and licence."""
    facts = {"prior": options.prior, "prior_sha256": digest(prior.folder), "prior_source": prior.facts.source}
    if options.revision is not None:
        facts["prior_revision"] = options.revision
    return facts | ({"prior_licence": prior.facts.licence} if prior.facts.licence else {})

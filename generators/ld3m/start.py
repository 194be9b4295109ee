"""Base of generators with a prior: check sizes, make start latents, record the prior."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.budgets import weight_bytes
from ld3m_plugin.contracts import Task
from ld3m_plugin.errors import InvalidOptionError, typed
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.compiled_blocks import CompiledBlocks, check_can_compile, once
from ld3m_plugin.generators.ld3m.latent_centres import LatentCentres, encoded
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import FrozenAutoencoder
from ld3m_plugin.generators.mismatch import check_fits_prior
from ld3m_plugin.initialisers.starting import StartsFromPictures


def check_multiple(task: Task, factor: int, alternative: str = "or another prior") -> None:
    """Check that the task's image size is a multiple of `factor`; raises `InvalidOptionError`."""
    if task.image_size % factor:
        raise InvalidOptionError(
            f"image size {task.image_size}: this prior downsamples by {factor}: the image size must be a multiple of "
            f"{factor}: give {typed('-D', 'image_size', -(-task.image_size // factor) * factor)}, {alternative}"
        )


class PriorGenerator(StartsFromPictures):
    """Base of generators that decode latents with the autoencoder of a prior."""

    _prior: FrozenAutoencoder
    _pictures: PictureSpace
    _blocks: CompiledBlocks | None = None

    def _check_compile(self, task: Task) -> None:
        """Raise `InvalidOptionError` before anything is loaded if `compile` asks for what this machine cannot do."""
        if self.options.compile == "blocks":
            check_can_compile(task.device)

    def _as_written(self) -> AbstractContextManager[None]:
        """Run nothing compiled meanwhile."""
        return nullcontext() if self._blocks is None else self._blocks.paused()

    def _compile(self, *networks: Any) -> None:
        """Compile the blocks of the prior's networks if `compile` says so; see `compiled_blocks`."""
        if self.options.compile == "blocks":
            self._blocks = CompiledBlocks(*networks)

    def _images(self, code: Tensor, checkpointed: bool = False) -> Tensor:
        """Decode latents z_0 (N, L, h, w) to images of the task."""
        return self._once(self._pictures.images(self._prior.codec.decode(code, checkpointed)))

    def _once(self, output: Tensor) -> Tensor:
        """Refuse a second derivative of what compiled blocks gave."""
        return output if self._blocks is None else once(output)

    def _use(self, prior: FrozenAutoencoder, task: Task) -> None:
        """Keep the prior; raises `InvalidOptionError` if it cannot make images of the task's channels and size."""
        made, wanted = prior.codec.channels, task.channels
        if made != wanted and {made, wanted} != {1, 3}:
            raise InvalidOptionError(
                f"this prior makes pictures of {made} channels, the task has {wanted}: only 1 and 3 channels are converted "
                f"into each other; use a prior of {wanted}"
            )
        if prior.image_size not in (None, task.image_size):
            raise InvalidOptionError(
                f"image size {task.image_size}: this prior's transformer has positions for {prior.image_size} alone: give "
                f"{typed('-D', 'image_size', prior.image_size)}, or another prior"
            )
        check_multiple(task, prior.downsampling)
        check_fits_prior(task, made, prior.trained_size, self.options.mismatch)
        super().prepare(task)
        self._prior, self._pictures = prior, PictureSpace(task, made, self.options.clamp)
        facts = {"prior": self.options.prior, "prior_sha256": digest(prior.folder), "prior_source": prior.facts.source}
        optional = {"prior_revision": self.options.revision, "prior_licence": prior.facts.licence or None}
        known = {name: value for name, value in optional.items() if value is not None}
        self._provenance = facts | known | super().provenance()

    def _start_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Make latents (N, L, h, w): encoded pictures of the initialiser, or unit Gaussians."""
        codec, initialiser = self._prior.codec, self.initialiser
        if initialiser is None:
            grid = task.image_size // codec.factor
            return torch.randn(len(labels), codec.latent_channels, grid, grid, generator=rng).to(task.device)
        if isinstance(initialiser, LatentCentres) and initialiser.folder == self._prior.folder:
            return initialiser.latents(codec, self._pictures, task, labels, rng)  # as they are, not decoded and encoded
        return encoded(codec, self._pictures, self.start_images(initialiser, task, labels, rng))

    def prior_bytes(self) -> int:
        return weight_bytes(self._prior.codec.model)

    def provenance(self) -> dict[str, str]:
        """Facts about the prior for the artefact's metadata: name, digest, source, revision and licence."""
        return self._provenance

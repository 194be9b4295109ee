"""The initialiser `samples`: what a latent diffusion model makes of noise and a class, with nothing learned."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ld3m_plugin.contracts import Initialiser, Task
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.latent_centres import decoded
from ld3m_plugin.generators.ld3m.ld3m_options import PriorPlace
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import Prior, find_prior, load_prior
from ld3m_plugin.generators.ld3m.sampler import Sampling, sample
from ld3m_plugin.generators.ld3m.schedule import make_chain
from ld3m_plugin.generators.picture_options import ClassMap
from ld3m_plugin.priors.class_matching import rows_of_classes

_AT_ONCE = 64


class SampleOptions(PriorPlace):
    """Options of the initialiser `samples`; the names are those of the LD3M generator, which lends its own."""

    steps: int = Field(10, ge=1, description="number of denoising steps, counted back from the noisiest timestep")
    guidance_scale: float = Field(1.0, ge=0, description="classifier-free guidance; 1 is none")
    class_map: ClassMap | None = Field(
        None,
        description="file (YAML, JSON) or mapping: class of the task -> class of the prior, as for the generator ld3m",
    )
    unmatched: str = Field("error", description="for a class that the prior does not have, as for the generator ld3m")


class PriorSamples(Initialiser):
    """Samples of a latent diffusion model, of each label's class, by DDIM from unit Gaussians. They are clamped to pictures."""

    Options = SampleOptions

    def prepare(self, task: Task) -> None:
        """Find the prior; raises `PriorError`."""
        self._digest = digest(find_prior(self.options.prior, self.options.revision, task))

    def images(self, task: Task, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Sample.

        Raises:
            PriorError: the prior cannot be read.
            InvalidOptionError: it does not make images of this size, or has no match for a class.
        """
        options = self.options
        prior = load_prior(find_prior(options.prior, options.revision, task), task.device)
        if task.image_size % prior.downsampling or prior.image_size not in (None, task.image_size):
            fitting = prior.image_size or f"a multiple of {prior.downsampling}"
            raise InvalidOptionError(f"image size {task.image_size}: this prior needs {fitting}")
        rows = [0] * task.num_classes  # an unconditional prior reads none
        if prior.class_embedding is not None:
            rows = rows_of_classes(task, prior.facts, options.class_map, options.unmatched)
        if options.guidance_scale != 1 and prior.null_embedding is None:
            raise InvalidOptionError(f"guidance_scale={options.guidance_scale}: the prior has no null class: use 1")

        def samples(k: int, count: int, stream: torch.Generator) -> Tensor:
            parts = torch.full((count,), rows[k]).split(_AT_ONCE)
            return torch.cat(
                [draw_samples(prior, task, some, stream, options.guidance_scale, options.steps) for some in parts]
            )

        return task.by_class(labels, rng, samples)

    def start(self) -> str:
        return "prior samples"

    def provenance(self) -> dict[str, str]:
        return {"prior_sha256": self._digest}


@torch.no_grad()
def draw_samples(
    prior: Prior, task: Task, labels: Tensor, rng: torch.Generator, guidance_scale: float, steps: int
) -> Tensor:
    """Draw normalised images (n, C, H, W) of the prior's classes `labels` (n,), by DDIM (Song et al., ICLR 2021) from noise."""
    grid = task.image_size // prior.codec.factor
    noise = torch.randn(len(labels), prior.codec.latent_channels, grid, grid, generator=rng).to(task.device)
    known = prior.class_embedding
    embedding = None if known is None else known[labels.to(task.device)][:, None]
    sampling = Sampling(make_chain(prior.levels, steps, "trailing"), "none", guidance_scale)
    clean = sample(
        prior.predict,
        sampling,
        torch.zeros_like(noise),
        noise,
        embedding=embedding,
        null_embedding=prior.null_embedding,
    )
    return decoded(prior.codec, PictureSpace(task, prior.codec.channels, "hard"), clean)

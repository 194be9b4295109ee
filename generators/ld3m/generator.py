"""The LD3M generator: latents and class embeddings in, images out, through a frozen latent diffusion model.

Source: Moser et al., arXiv:2403.03881, and its published code; where the two differ, or the code is wrong, an option's
description says so. The chain itself is in `sampler`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ld3m_plugin.contracts import BackendOptions, Generator, Latents, Task
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.conditioning import rows_of_classes
from ld3m_plugin.generators.ld3m.folder import digest
from ld3m_plugin.generators.ld3m.prior import Prior, find_prior, load_prior
from ld3m_plugin.generators.ld3m.sampler import Sampling, sample
from ld3m_plugin.generators.ld3m.schedule import Chain, make_chain
from ld3m_plugin.memory import GIB, saved_bytes


class PriorOptions(BackendOptions):
    """Which prior, and how its latents start: shared with the autoencoder generator."""

    prior: str = Field(
        "embedded",
        description="the prior: `embedded` (shipped, Fashion-MNIST), a folder in diffusers' layout, or a hub id OWNER/NAME",
    )
    revision: str | None = Field(None, description="commit or tag of a hub id")
    init: Literal["real", "gaussian"] = Field(
        "real",
        description="latents start from encoded distinct real images of the class, or from unit Gaussians (paper, Table 8)",
    )
    clamp: Literal["straight-through", "hard", "none"] = Field(
        "straight-through",
        description="how rendered pixels are kept in [0, 1]: clamp and pass the gradient on; clamp and stop the gradient of "
        "saturated pixels (published code); or leave them",
    )


class LD3MOptions(PriorOptions):
    """Options of the LD3M generator."""

    steps: int = Field(
        10, ge=1, description="T, denoising steps: exactly so many evaluations of the U-Net (paper: 10 to 40)"
    )
    spacing: Literal["leading", "trailing"] = Field(
        "leading",
        description="timesteps floor(i*M/T)+1 (published code, for T that divides M), or counted back from the noisiest",
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="classifier-free guidance; 1 skips the unconditional pass (published: 3)",
    )
    eta: float = Field(
        0.0, ge=0, le=1, description="noise of each step, 0 DDIM (published code) to 1 DDPM (paper's Eq. 5)"
    )
    residual: Literal["x0", "mean", "none"] = Field(
        "x0",
        description="x0: predicted clean latents mixed with the start latents, weight index/(T-1) (published code); mean: each "
        "state mixed with z_T, weight t/T (paper, Eq. 7); none: plain DDIM",
    )
    residual_quantized: bool = Field(
        True, description="the x0 residual is the quantised start (published code); no difference for a KL autoencoder"
    )
    learn: Literal["latent", "class_embedding", "both"] = Field(
        "both", description="what is learned (paper, Table 7); a prior without classes has latents alone"
    )
    noise: Literal["fixed", "redrawn"] = Field(
        "fixed",
        description="noise of the start: drawn once an image and stored with it, or drawn again at each step (published code, "
        "which draws at each call and so pulls gradients back through another image than it compared)",
    )
    memory: Literal["auto", "graph", "checkpoint"] = Field(
        "auto",
        description="keep all activations of the chain, or recompute each denoising step in the backward pass; auto keeps "
        "them while they fit in memory_budget. The result is the same",
    )
    memory_budget: float = Field(4.0, gt=0, allow_inf_nan=False, description="GiB of activations that auto keeps")
    gradient: str = Field(
        "full",
        pattern=r"^(full|last-[1-9][0-9]*)$",
        description="full: exact. last-K: the U-Net is differentiated in the last K steps; in those before, its output counts as "
        "a constant and the gradient takes the linear path through states and residual",
    )
    class_map: Path | None = Field(
        None,
        description="YAML or JSON file: class of the task -> class of the prior (name, WordNet id or unconditional)",
    )
    unmatched: str = Field(
        "error",
        description="a class the prior does not know: error, unconditional, or the class of the prior to start from",
    )

    @model_validator(mode="after")
    def _one_way_to_redraw(self) -> LD3MOptions:
        if self.noise == "redrawn" and self.init == "gaussian" and self.learn == "class_embedding":
            raise ValueError("nothing would tie an image to its row: latents and noise are both random")
        return self


class LD3MGenerator(Generator):
    """Renders `latent` (N, L, h, w), `class_embedding` (N, 1, d) and the fixed `noise` (N, L, h, w); with eta > 0 also the fixed
    `step_noise` (N, T, L, h, w)."""

    Options = LD3MOptions
    _prior: Prior
    _pictures: PictureSpace
    _chain: Chain

    def prepare(self, task: Task) -> None:
        """Load the prior on the task's device.

        Raises:
            PriorError: there is none, or it is damaged.
            InvalidOptionError: the image size does not fit, a class has no match, or guidance asks for what is not there.
        """
        options = self.options
        self._prior = load_prior(find_prior(options.prior, options.revision), task.device)
        check_size(task, self._prior)
        assert self._prior.levels is not None  # noqa: S101 (for the type checker: it comes with the U-Net)
        self._chain = make_chain(self._prior.levels, options.steps, options.spacing)
        self._pictures = PictureSpace(task, self._prior.codec.channels, options.clamp)
        self._null = self._null_embedding()
        self._bytes_per_row: int | None = None
        if self._prior.class_embedding is not None:
            self._rows = rows_of_classes(task, self._prior.facts, options.class_map, options.unmatched)
        elif options.learn == "class_embedding":
            raise InvalidOptionError("learn=class_embedding: this prior is unconditional and has none")

    def _null_embedding(self) -> Tensor | None:
        embedding, row = self._prior.class_embedding, self._prior.facts.null_class
        if embedding is None or self.options.guidance_scale == 1:
            return None
        if row is None:
            raise InvalidOptionError(
                f"guidance_scale={self.options.guidance_scale}: the prior has no null class to guide away from; use 1"
            )
        return embedding[row].view(1, 1, -1)

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Encoded real images or Gaussians, the class's embedding, and noise."""
        options = self.options
        latent = start_latents(task, labels, rng, self._prior, self._pictures, options.init)
        tensors, learned = {"latent": latent}, {"latent", "class_embedding"}
        if self._prior.class_embedding is not None:
            rows = torch.tensor(self._rows)[labels.cpu()].to(task.device)
            tensors["class_embedding"] = self._prior.class_embedding[rows][:, None].clone()
        tensors["noise"] = torch.randn(latent.shape, generator=rng).to(task.device)
        if options.eta > 0:
            shape = (len(labels), options.steps, *latent.shape[1:])
            tensors["step_noise"] = torch.randn(shape, generator=rng).to(task.device)
        if options.learn != "both":
            learned = {options.learn}
        return Latents(tensors, tuple(learned & set(tensors)))

    def render(self, latents: Latents) -> Tensor:
        return self._pictures.images(self._prior.codec.decode(self.denoise(latents)))

    def denoise(self, latents: Latents) -> Tensor:
        """z_0 (N, L, h, w): the end of the chain, before the decoder."""
        start = latents["latent"]
        anchor = self._prior.codec.quantise(start) if self.options.residual_quantized else start
        return sample(
            self._prior.predict,
            self._sampling(latents),
            start,
            latents["noise"],
            embedding=latents.get("class_embedding"),
            null_embedding=self._null,
            anchor=anchor,
            step_noise=latents.get("step_noise"),
        )

    def _sampling(self, latents: Latents) -> Sampling:
        options = self.options
        last = None if options.gradient == "full" else int(options.gradient.removeprefix("last-"))
        return Sampling(
            chain=self._chain,
            residual=options.residual,
            guidance_scale=options.guidance_scale,
            eta=options.eta,
            exact_steps=last,
            checkpointed=torch.is_grad_enabled() and self._checkpointed(latents, last),
        )

    def _checkpointed(self, latents: Latents, last: int | None) -> bool:
        policy: str = self.options.memory
        if policy != "auto":
            return policy == "checkpoint"
        if self._bytes_per_row is None:
            # One evaluation of the U-Net for one row, once a run.
            row = latents.rows(slice(0, 1)).detach(requires_grad=True)
            embedding = row.get("class_embedding")
            self._bytes_per_row = saved_bytes(
                lambda: self._prior.predict(row["noise"] + 0 * row["latent"], self._chain.timesteps[0], embedding)
            )
        passes = 1 if self._null is None else 2
        steps = min(last or self._chain.steps, self._chain.steps)
        budget: float = self.options.memory_budget * GIB
        return self._bytes_per_row * passes * steps * len(latents) > budget

    def on_step(self, latents: Latents, step: int, rng: torch.Generator) -> Latents:
        """With `noise=redrawn`, other noise for the next step."""
        if self.options.noise == "fixed":
            return latents
        names = [name for name in ("noise", "step_noise") if name in latents]
        return latents.replace(
            **{name: torch.randn(latents[name].shape, generator=rng).to(latents[name].device) for name in names}
        )

    def learning_rates(self, objective: str) -> dict[str, float]:
        rates = {"latent": 0.02, "class_embedding": 0.02}
        return rates if self.options.learn == "both" else {self.options.learn: rates[self.options.learn]}

    def provenance(self) -> dict[str, str]:
        return provenance(self.options, self._prior)


def check_size(task: Task, prior: Prior) -> None:
    """Raise an `InvalidOptionError` if the prior cannot make images of the task's size."""
    factor = prior.codec.factor
    if prior.unet is not None:
        factor *= 2 ** (len(prior.unet.config.block_out_channels) - 1)
    if task.image_size % factor:
        raise InvalidOptionError(
            f"images of {task.image_size} pixels: this prior halves them {factor.bit_length() - 1} times, so the size must be "
            f"a multiple of {factor}: give -D image_size={-(-task.image_size // factor) * factor}"
        )


def start_latents(
    task: Task, labels: Tensor, rng: torch.Generator, prior: Prior, pictures: PictureSpace, init: str
) -> Tensor:
    """Latents (N, L, h, w) of distinct real images of each label, or unit Gaussians."""
    if init == "real":
        with torch.no_grad():
            return prior.codec.encode(pictures.pictures(task.real_images_of(labels, rng)))
    grid = task.image_size // prior.codec.factor
    return torch.randn(len(labels), prior.codec.latent_channels, grid, grid, generator=rng).to(task.device)


def provenance(options: PriorOptions, prior: Prior) -> dict[str, str]:
    """The prior and the digest of its files, for the artefact."""
    facts = {"prior": options.prior, "prior_sha256": digest(prior.folder), "prior_source": prior.facts.source}
    if options.revision is not None:
        facts["prior_revision"] = options.revision
    return facts | ({"prior_licence": prior.facts.licence} if prior.facts.licence else {})

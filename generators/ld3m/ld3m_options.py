"""Options of the LD3M generator, each with its source, and of the autoencoder generator. Without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ld3m_plugin.generators.picture_options import MISMATCH, Clamp, ClassMap, Mismatch
from ld3m_plugin.initialisers.start_options import StartOptions
from ld3m_plugin.options import Options, Place


class PriorPlace(Options):
    """Where a prior lies."""

    prior: Annotated[str, Place(frozenset({"embedded", "embedded-emoji"}))] = Field(
        "embedded",
        description="prior: `embedded` (shipped: the one that was trained on the data set, else Fashion-MNIST's), a folder in "
        "diffusers' layout, or a hub id OWNER/NAME",
    )
    revision: Annotated[str | None, Place(is_path=False)] = Field(None, description="commit or tag of a hub id")


class PriorOptions(PriorPlace, StartOptions):
    """The prior and the start of its latents; shared with the autoencoder generator."""

    added = StartOptions.added | {"mismatch", "compile"}

    noise_name = "gaussian"

    init: str = Field(
        "real",
        description="start latents: `real`, encoded distinct real images of the class, another initialiser (`ld3m plugins` lists "
        "them), whose pictures are encoded, or `gaussian`, unit Gaussians (paper, Table 8)",
    )
    clamp: Clamp = Field(
        "straight-through",
        description="rendered pixels: clamp to [0, 1] and pass the gradient on; clamp and stop the gradient of saturated pixels "
        "(published code); or do not clamp (GLaD)",
    )
    compile: Literal["none", "blocks"] = Field(
        "none",
        description="blocks: compile the repeated blocks of network and decoder by torch.compile, for passes with a gradient; "
        "rounding differs, the first step takes minutes, and ~/.cache/ld3m/compiled keeps the code for later runs",
    )
    mismatch: Mismatch = MISMATCH


class AutoencoderOptions(PriorOptions):
    """Options of the autoencoder generator."""

    def learning_rates(self) -> dict[str, float]:
        return {"latent": 0.05}


class LD3MOptions(PriorOptions):
    """Options of the LD3M generator."""

    added = PriorOptions.added | {"cuda_graphs"}

    steps: int = Field(10, ge=1, description="T, number of denoising steps and of U-Net evaluations (paper: 10 to 40)")
    spacing: Literal["leading", "trailing"] = Field(
        "leading",
        description="timesteps: floor(i*M/T)+1 (published code, for T that divides M), or counted back from the noisiest (Lin et "
        "al. 2024), the better choice for few steps and rectified flow: leading with T = 1 adds almost no noise",
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="classifier-free guidance (Ho and Salimans 2022); 1 skips the unconditional pass (published: 3)",
    )
    eta: float = Field(
        0.0, ge=0, le=1, description="noise of each step, from 0 (DDIM, published code) to 1 (DDPM, paper, Eq. 5)"
    )
    residual: Literal["x0", "mean", "none"] = Field(
        "x0",
        description="x0: mix the start latents into the predicted clean latents, weight index/(T-1) (published code); mean: mix "
        "z_T into each state, weight t/T (paper, Eq. 7); none: plain DDIM",
    )
    residual_quantized: bool = Field(
        True,
        description="quantise the start latents in the x0 residual (published code); no effect with a KL autoencoder",
    )
    learn: Literal["latent", "class_embedding", "both"] = Field(
        "both", description="learned tensors (paper, Table 7); a prior without classes has only latents"
    )
    noise: Literal["fixed", "redrawn"] = Field(
        "fixed",
        description="start noise: drawn once per image and stored with it, or redrawn at each step. The published code redraws "
        "at each call, so its gradients belong to other images than those it compared",
    )
    memory: Literal["auto", "graph", "checkpoint"] = Field(
        "auto",
        description="graph: keep all activations; checkpoint: recompute each denoising step and each block of the decoder in the "
        "backward pass; auto: graph if the activations fit in memory_budget, else checkpoint, in chunks if one step does not "
        "fit. A run records the choice. Graph and checkpoint give the same bits",
    )
    memory_budget: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="GiB of activations of chain and decoder that auto may keep, by their sizes",
    )
    cuda_graphs: Literal["auto", "none"] = Field(
        "auto",
        description="auto: on CUDA, record the passes of network and decoder where their activations for all rows take at most 1 "
        "GiB each, and replay them; activations are then recomputed in the backward pass, whatever `memory` says. none: launch "
        "each kernel",
    )
    gradient: str = Field(
        "full",
        pattern=r"^(full|last-[1-9][0-9]*)$",
        description="full: exact. last-K: differentiate the U-Net only in the last K steps; in earlier steps, its output counts "
        "as a constant and the gradient follows the linear path through states and residual",
    )
    class_map: ClassMap | None = Field(
        None,
        description="file (YAML, JSON) or mapping: class of the task -> class of the prior (name, WordNet id or unconditional)",
    )
    unmatched: str = Field(
        "error",
        description="for a class that the prior does not have: error, unconditional, or the name of a class of the prior",
    )

    @model_validator(mode="after")
    def _one_way_to_redraw(self) -> LD3MOptions:
        if self.noise == "redrawn" and self.init == "gaussian" and self.learn == "class_embedding":
            raise ValueError(
                "noise=redrawn, init=gaussian and learn=class_embedding together: nothing ties an image to its row; change one"
            )
        return self

    def learning_rates(self) -> dict[str, float]:
        rates = {"latent": 0.02, "class_embedding": 0.02}
        return rates if self.learn == "both" else {self.learn: rates[self.learn]}

"""Options of the LD3M generator, each with its source, and those it shares with the autoencoder generator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ld3m_plugin.contracts import Options


class PriorOptions(Options):
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
        "saturated pixels (published code); or leave them (GLaD)",
    )


class LD3MOptions(PriorOptions):
    """Options of the LD3M generator."""

    steps: int = Field(
        10, ge=1, description="T, denoising steps: exactly so many evaluations of the U-Net (paper: 10 to 40)"
    )
    spacing: Literal["leading", "trailing"] = Field(
        "leading",
        description="timesteps floor(i*M/T)+1 (published code, for T that divides M), or counted back from the noisiest (Lin "
        "et al. 2024), which few steps and rectified flow want: leading with T = 1 hardly adds noise",
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="classifier-free guidance (Ho and Salimans 2022); 1 skips the unconditional pass (published: 3)",
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
    memory_budget: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="GiB of the chain's activations that auto keeps; the decoder's come on top",
    )
    gradient: str = Field(
        "full",
        pattern=r"^(full|last-[1-9][0-9]*)$",
        description="full: exact. last-K: the U-Net is differentiated in the last K steps (all, where there are fewer); in those "
        "before, its output counts as a constant and the gradient takes the linear path through states and residual",
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

"""Options of `ld3m prior train ldm`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ld3m_plugin.priors.training.training_options import PriorTrainingOptions


class LdmTrainingOptions(PriorTrainingOptions):
    """Sizes and schedules; the defaults make the prior that is shipped."""

    latent_channels: int = Field(4, ge=1, description="L, channels of the latent grid")
    autoencoder_channels: tuple[int, ...] = Field(
        (24, 48, 64),
        min_length=1,
        description="widths, written [a,b,c]; each after the first halves the grid: three give a factor of 4",
    )
    autoencoder_layers: int = Field(1, ge=1, description="residual blocks at each resolution")
    autoencoder_batch_size: int = Field(64, ge=1, description="images an update of the autoencoder")
    autoencoder_steps: int = Field(1200, ge=1, description="updates of the autoencoder")
    autoencoder_rate: float = Field(2e-3, gt=0, description="its peak AdamW learning rate")
    kl_weight: float = Field(
        1e-3, ge=0, description="weight of the mean KL divergence of a latent entry (nats) against the mean pixel error"
    )
    channels: tuple[int, ...] = Field(
        (64, 96),
        min_length=1,
        description="widths of the U-Net, written [a,b]; each after the first at half the resolution",
    )
    layers: int = Field(1, ge=1, description="residual and attention blocks at each resolution of the U-Net")
    heads: int = Field(4, ge=1, description="attention heads, a divisor of every width of channels")
    norm_groups: int = Field(
        8,
        ge=1,
        description="groups of the group norms, a divisor of every width of channels and of autoencoder_channels",
    )
    embedding_size: int = Field(64, ge=1, description="d, length of a class embedding")
    steps: int = Field(3000, ge=1, description="updates of the U-Net")
    rate: float = Field(1e-3, gt=0, description="its peak AdamW learning rate")
    drop_class: float = Field(
        0.1, ge=0, lt=1, description="share of images trained without class, for classifier-free guidance"
    )
    prediction: Literal["epsilon", "v_prediction", "sample"] = Field(
        "v_prediction", description="what the U-Net predicts"
    )
    batch_size: int = Field(128, ge=1, description="images an update of the U-Net")
    guidance_scale: float = Field(2.0, ge=0, description="of the samples that are shown and reported")
    sample_steps: int = Field(20, ge=1, le=1000, description="denoising steps of those samples")

    @field_validator("autoencoder_channels", "channels")
    @classmethod
    def _positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        # Not a constraint of the items: help would show its inner workings.
        if any(width < 1 for width in widths):
            raise ValueError("widths must be at least 1")
        return widths

    @model_validator(mode="after")
    def _divisors(self) -> LdmTrainingOptions:
        for width in self.channels:
            if width % self.heads or width % self.norm_groups:
                raise ValueError(f"width {width} of channels must be a multiple of heads and of norm_groups")
        for width in self.autoencoder_channels:
            if width % self.norm_groups:
                raise ValueError(f"width {width} of autoencoder_channels must be a multiple of norm_groups")
        return self

    @property
    def factor(self) -> int:
        """By how much the autoencoder shrinks height and width."""
        return int(2 ** (len(self.autoencoder_channels) - 1))

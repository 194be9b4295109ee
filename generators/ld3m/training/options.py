"""Options of `ld3m prior train ldm`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ld3m_plugin.options import BackendOptions


class LdmTrainingOptions(BackendOptions):
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
    warmup: int = Field(100, ge=0, description="updates over which the learning rate rises; then half a cosine to zero")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the weight average that is kept; it warms up from zero")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast, through accelerate")
    save_every: int = Field(100, ge=1, description="updates between two saved states")
    samples_every: int = Field(500, ge=0, description="updates between two pictures of samples; 0: none")
    guidance_scale: float = Field(2.0, ge=0, description="of the samples that are shown and reported")
    sample_steps: int = Field(20, ge=1, le=1000, description="denoising steps of those samples")
    report_per_class: int = Field(
        200, ge=2, description="samples a class in the quality report; fewer if a class has fewer training images"
    )
    judge_epochs: int = Field(3, ge=1, description="epochs of the classifier in the quality report")
    judge_least_steps: int = Field(
        1000, ge=1, description="more epochs of it are made until there are as many updates: small data sets"
    )
    half: bool = Field(False, description="store the weights in half precision")
    licence: str | None = Field(None, description="of the prior, for the record; the data may decide it")

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

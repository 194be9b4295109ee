"""Options of `ld3m prior train ldm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ld3m_plugin.priors.training.training_sizes import SMALL_REPORT, TINY_REPORT, SizedTrainingOptions

#: Widths of the autoencoder by size, below 64 pixels and from there on, where it downsamples by 8: an update of the U-Net on 8x8
#: latents costs a quarter of one on 16x16.
_WIDTHS = {"tiny": ((16, 32, 48), (16, 24, 32, 48)), "small": ((24, 48, 64), (16, 32, 48, 64))}
_LARGE = 64  # pixels

#: Options that the weights of a prior decide: a training that starts from one takes them from it.
LAYOUT = (
    *("latent_channels", "autoencoder_channels", "autoencoder_layers", "norm_groups"),
    *("channels", "layers", "heads", "embedding_size", "prediction"),
)


#: Updates of a training that starts from a prior, by size.
FINETUNED: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"autoencoder_steps": 150, "steps": 300},
    "small": {"autoencoder_steps": 500, "steps": 1000},
}


class LdmTrainingOptions(SizedTrainingOptions):
    """Sizes and schedules; the defaults are those of the shipped prior."""

    sizes = {  # noqa: RUF012 (a constant of the base)
        "tiny": {
            **TINY_REPORT,
            **{"autoencoder_batch_size": 16, "autoencoder_steps": 400},
            **{"channels": (48, 64), "batch_size": 64, "steps": 400},
        },
        "small": {
            **SMALL_REPORT,
            **{"autoencoder_batch_size": 32, "autoencoder_steps": 1000},
            **{"batch_size": 64, "steps": 1500},
        },
    }

    finetune: str | None = Field(
        None,
        description="prior to start from: embedded-emoji (64 pixels, colour), embedded (Fashion-MNIST, 32, gray), a folder or "
        "a hub id; autoencoder and U-Net are trained further, and the prior decides the layout",
    )
    latent_channels: int = Field(4, ge=1, description="L, channels of the latent grid")
    autoencoder_channels: tuple[int, ...] = Field(
        (24, 48, 64),
        min_length=1,
        description="widths of the autoencoder, written [a,b,c]; each after the first halves the grid: three downsample by 4; "
        "size=tiny and small have four from 64 pixels on",
    )
    autoencoder_layers: int = Field(1, ge=1, description="residual blocks at each resolution")
    autoencoder_batch_size: int = Field(64, ge=1, description="images per update of the autoencoder")
    autoencoder_steps: int = Field(1200, ge=1, description="updates of the autoencoder")
    autoencoder_rate: float = Field(2e-3, gt=0, description="peak AdamW learning rate of the autoencoder")
    kl_weight: float = Field(
        1e-3,
        ge=0,
        description="weight of the mean KL divergence per latent entry (nats), relative to the mean pixel error",
    )
    channels: tuple[int, ...] = Field(
        (64, 96),
        min_length=1,
        description="widths of the U-Net, written [a,b]; each after the first halves the resolution",
    )
    layers: int = Field(1, ge=1, description="residual and attention blocks at each resolution of the U-Net")
    heads: int = Field(4, ge=1, description="attention heads; must divide every width in channels")
    norm_groups: int = Field(
        8,
        ge=1,
        description="groups of the group norms; must divide every width in channels and autoencoder_channels",
    )
    embedding_size: int = Field(64, ge=1, description="d, length of a class embedding")
    steps: int = Field(3000, ge=1, description="updates of the U-Net")
    rate: float = Field(1e-3, gt=0, description="peak AdamW learning rate of the U-Net")
    drop_class: float = Field(
        0.1, ge=0, lt=1, description="fraction of images trained without class, for classifier-free guidance"
    )
    prediction: Literal["epsilon", "v_prediction", "sample"] = Field(
        "v_prediction", description="quantity that the U-Net predicts"
    )
    batch_size: int = Field(128, ge=1, description="images per update of the U-Net")
    guidance_scale: float = Field(2.0, ge=0, description="guidance of the samples in pictures and in the report")
    sample_steps: int = Field(20, ge=1, le=1000, description="denoising steps of these samples")

    @model_validator(mode="after")
    def _divisors(self) -> LdmTrainingOptions:
        # Not a constraint of the items: `--help` would print it unreadably.
        for name, divisors in {"channels": ("heads", "norm_groups"), "autoencoder_channels": ("norm_groups",)}.items():
            for width in getattr(self, name):
                if width < 1 or any(width % getattr(self, divisor) for divisor in divisors):
                    raise ValueError(
                        f"width {width} of {name} must be a positive multiple of {' and of '.join(divisors)}"
                    )
        return self

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a size, without the layout where a prior decides it: then a layout among the fields that are set was asked for."""
        sized = super().defaults(given)
        if given.get("finetune") is None or not sized:
            return sized
        return {**{k: v for k, v in sized.items() if k not in LAYOUT}, **FINETUNED[given["size"]]}

    def fitted(self, image_size: int) -> Self:
        """The same options with widths of the autoencoder for that image size, where `size` chooses them."""
        if self.size not in _WIDTHS or self.finetune is not None or "autoencoder_channels" in self.model_fields_set:
            return self
        widths: dict[str, Any] = {"autoencoder_channels": _WIDTHS[self.size][image_size >= _LARGE]}
        return type(self)(**{**self.model_dump(), **widths})

    @property
    def factor(self) -> int:
        """Factor by which the autoencoder downsamples height and width."""
        return int(2 ** (len(self.autoencoder_channels) - 1))

"""Options of `ld3m prior train gan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.glad.stylegan_shape import NetworkShape, make_shape
from ld3m_plugin.priors.training.training_sizes import SMALL_REPORT, TINY_REPORT, SizedTrainingOptions

if TYPE_CHECKING:
    from ld3m_plugin.task import Task


class GanTrainingOptions(SizedTrainingOptions):
    """Sizes and schedules; the defaults, with half=true, make the shipped prior."""

    sizes = {  # noqa: RUF012 (a constant of the base)
        "tiny": {
            **TINY_REPORT,
            **{"channel_base": 256, "channel_max": 32, "discriminator_channels": (16, 32, 48, 64)},
            **{"steps": 600, "batch_size": 16, "guide_steps": 150},
        },
        "small": {
            **SMALL_REPORT,
            **{"channel_base": 384, "channel_max": 48, "discriminator_channels": (16, 32, 64, 96)},
            **{"steps": 1500, "batch_size": 24, "guide_steps": 400},
        },
    }

    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    z_dim: int = Field(64, ge=1, description="length of the random vector")
    w_dim: int = Field(128, ge=1, description="length of a style")
    embedding_size: int = Field(64, ge=1, description="length of a class embedding")
    layers: int = Field(
        6,
        ge=4,
        description="synthesis layers before the one that makes the image; the last two are critically sampled",
    )
    channel_base: int = Field(512, ge=2, description="a layer has channel_base / 2 / its cutoff frequency channels")
    channel_max: int = Field(64, ge=1, description="most channels of a layer")
    margin: int = Field(2, ge=0, description="samples around the image at every layer but the last two (official: 10)")
    discriminator_channels: tuple[int, ...] = Field(
        (24, 48, 96, 128),
        min_length=1,
        description="widths of the discriminator, written [a,b]; each one after the first halves the resolution",
    )
    steps: int = Field(2800, ge=1, description="updates of generator and discriminator")
    rate: float = Field(2.5e-3, gt=0, description="peak learning rate of AdamW for both")
    batch_size: int = Field(32, ge=1, description="images an update")
    r1: float = Field(0.1, ge=0, description="gamma of the R1 penalty on real images (Mescheder et al. 2018); 0: none")
    r1_every: int = Field(
        8, ge=1, description="updates between two R1 penalties on average; each weighs that many times as much"
    )
    guide: float = Field(
        0.2, ge=0, description="weight of a classifier's cross-entropy on generated images (StyleGAN-XL); 0: none"
    )
    guide_steps: int = Field(800, ge=1, description="updates of that classifier; at least one epoch")
    augment: str = Field(
        "none", description="DSA operations on the discriminator's inputs, such as crop_cutout, for small data sets"
    )
    truncation: float = Field(1.0, ge=0, le=1, description="psi of the samples in the picture and the report")

    @field_validator("augment")
    @classmethod
    def _known(cls, strategy: str) -> str:
        from ld3m_plugin.augmentation.strategy import parse  # late: it imports torch

        try:
            parse(strategy)
        except InvalidOptionError as error:
            raise ValueError(str(error)) from error
        return strategy

    @field_validator("discriminator_channels")
    @classmethod
    def _positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        # Not a constraint on the items, which `ld3m plugins show` would print as pydantic writes it.
        if any(width < 1 for width in widths):
            raise ValueError("widths must be at least 1")
        return widths

    def shape(self, task: Task) -> NetworkShape:
        """Derive the generator's shape for images of the task."""
        same = self.model_dump(include={"z_dim", "w_dim", "channel_base", "channel_max", "margin"})
        return make_shape(
            resolutions=(task.image_size,),
            stem_layers=self.layers,
            classes=task.num_classes,
            image_channels=task.channels,
            embed_dim=self.embedding_size,
            **same,
        )

"""Options of experts: those that decide them, and those for how they are trained and stored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ld3m_plugin.augmentation.strategy import parse
from ld3m_plugin.augmentation.strategy_names import FULL, IDENTITY
from ld3m_plugin.objectives.matching_options import NetworkOptions

#: Settings of a store's extent: experts and epochs can be added to it later.
EXTENT = frozenset({"count", "epochs"})


class ExpertSettings(NetworkOptions):
    """The options that decide an expert; all but `count` and `epochs` are in the key of a store.

    Sources of the defaults: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, and
    GLaD (15 epochs, 100 experts); its released code for the rest.
    """

    network: str = Field("ConvNet", description="registered network that is trained")
    epochs: int = Field(15, ge=1, description="epochs of training (published: 15 by GLaD, 50 by MTT)")
    rate: float = Field(0.01, gt=0, description="constant learning rate of SGD (published: 0.01)")
    momentum: float = Field(0.0, ge=0, lt=1, description="of SGD (published: 0)")
    weight_decay: float = Field(0.0, ge=0, description="of SGD (published: 0)")
    batch_size: int = Field(256, ge=1, description="images per update; the last update of an epoch may have fewer")
    dsa: str = Field(FULL, description="DSA operations joined by '_', one drawn per update; or 'none'")
    seed: int = Field(0, ge=0, lt=2**63, description="expert i is a function of the seed and of i")
    count: int = Field(100, ge=1, le=1_000_000, description="experts (published: 100)")

    @field_validator("dsa")
    @classmethod
    def _known_operations(cls, strategy: str) -> str:
        return "_".join(parse(strategy)) or IDENTITY


class TrainingOptions(ExpertSettings):
    """All options of `ld3m experts`; those for how experts are trained and stored do not change the key."""

    keep_epochs: int | None = Field(
        None, ge=1, description="last epoch that is stored, such as max_start_epoch + expert_epochs; default: epochs"
    )
    dtype: Literal["float32", "bf16"] = Field("float32", description="of the stored rows; bf16 takes half the disk")
    together: int = Field(
        1, ge=1, description="experts trained in one vectorised update; equal to one by one up to rounding"
    )

    @property
    def last_epoch(self) -> int:
        """The last epoch that is stored. Training ends there, as later ones could never be read."""
        return self.epochs if self.keep_epochs is None else min(self.epochs, self.keep_epochs)

    def settings(self) -> ExpertSettings:
        """The part that decides the experts."""
        return ExpertSettings.model_validate(self.model_dump(include=set(ExpertSettings.model_fields)))

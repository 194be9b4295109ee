"""Options that the training of every kind of prior has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ld3m_plugin.options import Options


class PriorTrainingOptions(Options):
    """Options of updates, weight average, saved states and report."""

    warmup: int = Field(
        100, ge=0, description="updates of linear warm-up of the learning rate; then half a cosine to zero"
    )
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the stored weight average; it warms up from zero")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast, through accelerate")
    save_every: int = Field(100, ge=1, description="updates between two saved states")
    samples_every: int = Field(500, ge=0, description="updates between two pictures of samples; 0: none")
    report_per_class: int = Field(
        200, ge=2, description="samples a class in the quality report; fewer if a class has fewer training images"
    )
    judge_epochs: int = Field(3, ge=1, description="epochs of the classifier in the quality report")
    judge_least_steps: int = Field(
        1000, ge=1, description="updates of it to make at least, in more epochs; for small data sets"
    )
    mirror: bool = Field(
        False, description="train on mirrored images too: right for drawings and photographs, not for digits"
    )
    half: bool = Field(False, description="store the weights in half precision")
    licence: str | None = Field(None, description="licence of the prior, for the record; the data may decide it")

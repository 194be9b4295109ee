"""Options of gradient matching, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ld3m_plugin.objectives.matching_options import MatchingOptions


class DCOptions(MatchingOptions):
    """Options of gradient matching."""

    distance: Literal["ours", "mse", "cos"] = Field(
        "ours",
        description="of two gradients: 1 - cosine of each output by layer, squared difference, or 1 - cosine of all",
    )
    outer_loop: int = Field(1, ge=1, description="steps with one network (published for 1/10/50 a class: 1/10/50)")
    inner_loop: int = Field(
        1, ge=0, description="its training epochs on the synthetic images between two steps (published: 1/50/10)"
    )
    lr_net: float = Field(0.01, gt=0, description="learning rate of that training (SGD)")
    momentum_net: float = Field(0.5, ge=0, lt=1, description="its momentum (published: DC 0.5, later code for DSA 0)")
    batch_train: int = Field(256, ge=1, description="its batch size")
    classes_at_once: int | None = Field(
        None,
        ge=1,
        description="classes whose synthetic gradients are computed in one pass; default: by the size of what they keep",
    )

"""Options of trajectory matching, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from ld3m_plugin.augmentation.strategy_names import FULL
from ld3m_plugin.objectives.matching_options import NetworkOptions


class MTTOptions(NetworkOptions):
    """Options of trajectory matching."""

    experts: Path | None = Field(
        None, description="folder of trained experts; default: $LD3M_EXPERTS, or 'experts' in the working folder"
    )
    expert_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="further options of `ld3m experts train` that the experts were trained with (default: its defaults)",
    )
    expert_epochs: int = Field(3, ge=1, description="epochs from the student's start to its target (published: 2, 3)")
    syn_steps: int = Field(20, ge=1, description="steps of the student on synthetic images (published: 10 to 80)")
    max_start_epoch: int = Field(5, ge=1, description="the student starts at an epoch below this (published: 2 to 40)")
    batch_syn: int | None = Field(None, ge=1, description="synthetic images per step; default: all")
    lr_teacher: float = Field(0.01, gt=0, description="initial synthetic learning rate")
    lr_lr: float = Field(1e-6, ge=0, description="learning rate of the synthetic learning rate (0 keeps it)")
    momentum_lr: float = Field(0.5, ge=0, lt=1, description="momentum of the synthetic learning rate (published: 0.5)")
    gradient: Literal["auto", "adjoint", "unrolled", "first-order"] = Field(
        "auto",
        description="adjoint: exact in constant memory; unrolled: the same through a graph of all steps, faster; auto: unrolled "
        "if the graph fits in memory_budget; first-order: TESLA's approximation",
    )
    memory_budget: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="GiB that the graph of all steps may keep, for auto"
    )
    dsa: str = Field(
        FULL,
        description="DSA operations joined by '_', one drawn per student's step, its parameters per image; or 'none'",
    )

    @field_validator("expert_settings")
    @classmethod
    def _leave_the_network(cls, settings: dict[str, Any]) -> dict[str, Any]:
        taken = {"network", "network_settings"} & set(settings)
        if taken:
            raise ValueError(
                f"{', '.join(sorted(taken))} cannot be set here: set it for the objective, whose student has the same network"
            )
        return settings

"""Every tensor of a checkpoint is accounted for: used, or known and dropped. Any other tensor is an error that names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis import autoencoder_layout as autoencoder
from ld3m_plugin.generators.ld3m.compvis import unet_layout as unet
from ld3m_plugin.generators.ld3m.compvis.compvis_config import Config
from ld3m_plugin.generators.ld3m.compvis.names import Entry
from ld3m_plugin.generators.ld3m.diffusers_parts import some

State = Mapping[str, Tensor]

EMBEDDING = "cond_stage_model.embedding.weight"
_EMA = "model_ema."
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LOSS = f"{autoencoder.PREFIX}loss."
#: Functions of the noise schedule, which is written as its settings. `check_schedule` compares `alphas_cumprod` with it.
_SCHEDULE = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
}
#: What only training reads, and the number that `scaling_factor` reads.
_DROPPED = {"lvlb_weights", "logvar", "scale_factor", f"{_EMA}decay", f"{_EMA}num_updates"}
_OTHER_YAML = "give the YAML of this checkpoint"


def make_plans(state: State, config: Config, network: Any, stage: Any) -> tuple[list[Entry], list[Entry], list[Entry]]:
    """Sources of U-Net, autoencoder and class embedding; moving averages of the U-Net are used if there are any."""
    entries = unet.entries(config.unet, network.state_dict())
    if any(key.startswith(_EMA) and key not in _DROPPED for key in state):
        entries = (replace(entry, old=_averaged_name(entry.old)) for entry in entries)
    classes = config.conditioning
    embedding = [] if classes is None else [Entry(EMBEDDING, "weight", (classes.n_classes, classes.embed_dim))]
    return list(entries), list(autoencoder.entries(config.first_stage, stage.state_dict())), embedding


def _averaged_name(old: str) -> str:
    """Name of the exponential moving average of a U-Net tensor: without `model.` and dots."""
    return _EMA + old.removeprefix("model.").replace(".", "")


def scaling_factor(state: State, config: Config) -> float:
    """Scale of the latents: measured in training and stored, or a setting (1 by default).

    Raises:
        PriorError: the stored number is not positive and finite, or the configuration requires one and there is none.
    """
    if "scale_factor" in state:
        factor = state["scale_factor"].detach()
        found = _form(factor) or (f"shape {tuple(factor.shape)}" if factor.numel() != 1 else float(factor))
        if not isinstance(found, float) or not 0 < found < math.inf:
            raise PriorError(f"scale_factor must be one positive, finite floating-point number, not {found}")
        return found
    if config.scale_by_std:
        raise PriorError("scale_factor is missing, which the configuration requires (scale_by_std)")
    return config.scale_factor


def check_tensors(state: State, plan: Sequence[Entry]) -> None:
    """Check names, then types, then shapes.

    Raises:
        PriorError: with the names that are missing or left over, the tensors that are not dense floating-point numbers, or
            the shapes that are not the configuration's.
    """
    used = {entry.old for entry in plan}
    averaged = {key for key in state if key.startswith(unet.PREFIX) and _averaged_name(key) in used}
    known = used | averaged | _SCHEDULE | _DROPPED
    missing = sorted(used - state.keys())
    unexpected = [key for key in sorted(state) if key not in known and not key.startswith(_LOSS)]
    if missing or unexpected:
        parts = ((missing, "it lacks"), (unexpected, "it has the unexpected"))
        lists = " and ".join(f"{verb} {some(keys, 20)}" for keys, verb in parts if keys)
        raise PriorError(f"{lists}: the YAML belongs to another checkpoint, or this kind of model is not supported")
    wrong = [f"{key} ({form})" for key in used | averaged if (form := _form(state[key])) is not None]
    if wrong:
        raise PriorError(
            f"it has tensors that are not dense floating-point numbers: {some(wrong)}; "
            "use a checkpoint of float64, float32, float16 or bfloat16 weights"
        )
    shapes = {
        f"{entry.old} is {tuple(state[entry.old].shape)}, not {entry.source_shape}"
        for entry in plan
        if not entry.fits(tuple(state[entry.old].shape))
    }
    if shapes:
        raise PriorError(f"it does not fit its configuration: {some(shapes, 20)}; {_OTHER_YAML}")


def check_values(state: State, plan: Sequence[Entry], half: bool) -> None:
    """Check that all numbers are finite in the precision in which they are written.

    Args:
        half: half precision; otherwise single.

    Raises:
        PriorError: with the names of the tensors that are not finite.
    """
    extremes = {key: torch.stack(state[key].detach().float().aminmax()) for key in {e.old for e in plan}}
    wrong = [key for key, values in extremes.items() if not values.isfinite().all()]
    if wrong:
        raise PriorError(
            f"it has values that are not finite numbers: {some(wrong)}; the checkpoint is damaged, or its training diverged"
        )
    large = [key for key, values in extremes.items() if not values.half().isfinite().all()]
    if half and large:
        raise PriorError(
            f"it has values above 65504, the largest number of half precision: {some(large)}; convert it without half"
        )


def _form(tensor: Tensor) -> str | None:
    """Form of a tensor that is not of dense floating-point numbers; None if it is."""
    if tensor.is_meta:
        return "without values"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    return None if tensor.dtype in _FLOATS else str(tensor.dtype).removeprefix("torch.")


def check_schedule(state: State, written: Tensor) -> None:
    """Check the noise levels in the file, if any, against those that are written; the two are rounded differently.

    Args:
        written: alpha-bar of each training timestep, by the schedule of the configuration.

    Raises:
        PriorError: they differ.
    """
    if "alphas_cumprod" not in state:
        return
    form, shape = _form(state["alphas_cumprod"]), tuple(state["alphas_cumprod"].shape)
    if form is not None or shape != tuple(written.shape):
        raise PriorError(
            f"alphas_cumprod is {form or shape}, not {tuple(written.shape)} floating-point numbers, one for each timestep of "
            f"its configuration: {_OTHER_YAML}"
        )
    difference = float((state["alphas_cumprod"].detach().double() / written.double() - 1).abs().max())
    if not difference < 1e-3:
        raise PriorError(
            f"alphas_cumprod is up to {difference:.1%} off the noise schedule of its configuration (beta_schedule, "
            f"linear_start, linear_end): {_OTHER_YAML}"
        )

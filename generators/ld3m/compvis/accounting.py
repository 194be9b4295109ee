"""Every tensor of a checkpoint is accounted for: used, or known and dropped; anything else is an error that names it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis import autoencoder_layout as autoencoder
from ld3m_plugin.generators.ld3m.compvis import unet_layout as unet
from ld3m_plugin.generators.ld3m.compvis.compvis_config import Config
from ld3m_plugin.generators.ld3m.compvis.names import Entry

#: A module and where each of its tensors comes from.
Plan = tuple[Any, list[Entry]]

EMBEDDING = "cond_stage_model.embedding.weight"
_EMA = "model_ema."
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LOSS = f"{autoencoder.PREFIX}loss."
#: Functions of the noise schedule, which is written as its settings. One of them is compared with it.
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
#: What training alone reads, and the number that `scaling_factor` reads.
_DROPPED = {"lvlb_weights", "logvar", "scale_factor", f"{_EMA}decay", f"{_EMA}num_updates"}


def averaged(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state with the U-Net's moving averages in the place of its weights, where the checkpoint has them."""
    if not _has_average(state):
        return state
    return {key: state.get(_averaged_name(key), value) for key, value in state.items()}


def _averaged_name(old: str) -> str:
    """The name of a U-Net tensor's exponential moving average: without `model.`, without dots."""
    return _EMA + old.removeprefix("model.").replace(".", "")


def _has_average(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(_EMA) and key not in _DROPPED for key in state)


def scaling_factor(state: Mapping[str, Tensor], config: Config, name: str) -> float:
    """What the model multiplies latents with: measured in training and stored, or a setting (1 unless given).

    Raises:
        PriorError: the stored number is not positive and finite, or the configuration says there is one and there is none.
    """
    if "scale_factor" in state:
        factor = state["scale_factor"].detach()
        found = _form(factor) or (f"shape {tuple(factor.shape)}" if factor.numel() != 1 else float(factor))
        if not isinstance(found, float) or not 0 < found < math.inf:
            raise PriorError(f"{name}: scale_factor must be one positive, finite floating-point number, not {found}")
        return found
    if config.scale_by_std:
        raise PriorError(f"{name} lacks scale_factor, which it stores according to its configuration (scale_by_std)")
    return config.scale_factor


def check_kind(state: Mapping[str, Tensor], config: Config, name: str) -> None:
    """Configuration and tensors must mean the same kind of first stage.

    Raises:
        PriorError: one says VQ, the other KL.
    """
    if config.first_stage.quantised == (autoencoder.CODEBOOK in state):
        return
    says, are, has = ("VQ", "KL", "no") if config.first_stage.quantised else ("KL", "VQ", "a")
    raise PriorError(
        f"{name} has {has} codebook ({autoencoder.CODEBOOK}): the configuration says {says}, the tensors are {are}; "
        "give the YAML of this checkpoint"
    )


def check_tensors(state: Mapping[str, Tensor], plans: Iterable[Plan], config: Config, name: str) -> None:
    """Names first, then what the tensors are, then shapes.

    Raises:
        PriorError: with the names that are missing or left over, the tensors that are not dense floating-point numbers, or
            the shapes that are not the configuration's.
    """
    plans = list(plans)
    expected = {entry.old for _, plan in plans for entry in plan}
    if _has_average(state):
        expected |= {_averaged_name(key) for key in expected if key.startswith(unet.PREFIX)}
    if config.conditioning is not None:
        expected.add(EMBEDDING)
    known = expected | _SCHEDULE | _DROPPED
    missing = sorted(expected - state.keys())
    unexpected = [key for key in sorted(state) if key not in known and not key.startswith(_LOSS)]
    if missing or unexpected:
        parts = ((missing, "lacks"), (unexpected, "has the unexpected"))
        lists = " and ".join(f"{verb} {_listed(keys)}" for keys, verb in parts if keys)
        raise PriorError(f"{name} {lists}: the YAML is of another checkpoint, or this kind is not converted")
    forms = {key: _form(state[key]) for key in sorted(expected)}
    wrong_forms = [f"{key} ({form})" for key, form in forms.items() if form is not None]
    if wrong_forms:
        raise PriorError(
            f"{name} holds tensors that are not dense floating-point numbers: {_listed(wrong_forms, 5)}; "
            "a checkpoint of float64, float32, float16 or bfloat16 weights is needed"
        )
    wrong = dict.fromkeys(_wrong_shapes(state, plans, config))
    if wrong:
        raise PriorError(
            f"{name} does not fit its configuration: {_listed(list(wrong))}; give the YAML of this checkpoint"
        )


def _wrong_shapes(state: Mapping[str, Tensor], plans: list[Plan], config: Config) -> Iterable[str]:
    for module, plan in plans:
        targets = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        for entry in plan:
            names = {entry.old, _averaged_name(entry.old)} & state.keys()
            for key in sorted(names, reverse=True):
                if not entry.fits(tuple(state[key].shape), targets[entry.new]):
                    yield f"{key} is {tuple(state[key].shape)}, not {entry.source_shape(targets[entry.new])}"
    if config.conditioning is not None:
        shape = (config.conditioning.n_classes, config.conditioning.embed_dim)
        if tuple(state[EMBEDDING].shape) != shape:
            yield f"{EMBEDDING} is {tuple(state[EMBEDDING].shape)}, not {shape}"


def check_values(state: Mapping[str, Tensor], plans: Iterable[Plan], config: Config, name: str, half: bool) -> None:
    """What is written must be finite, in the precision in which it is.

    Args:
        half: whether that is half precision, and not single.

    Raises:
        PriorError: with the names of the tensors that are not.
    """
    used = [entry.old for _, plan in plans for entry in plan] + [EMBEDDING] * (config.conditioning is not None)
    averages = (_averaged_name(key) for key in used)
    used = [average if average in state else key for key, average in zip(used, averages, strict=True)]
    extremes = {key: torch.stack(state[key].detach().float().aminmax()) for key in dict.fromkeys(used)}
    wrong = [key for key, values in extremes.items() if not values.isfinite().all()]
    if wrong:
        raise PriorError(
            f"{name} has values that are not finite numbers: {_listed(wrong, 5)}; the checkpoint is damaged, or of a "
            "training that diverged"
        )
    large = [key for key, values in extremes.items() if not values.half().isfinite().all()]
    if half and large:
        raise PriorError(
            f"{name} has values above 65504, the largest number of half precision: {_listed(large, 5)}; "
            "convert it without half"
        )


def _form(tensor: Tensor) -> str | None:
    """What a tensor is instead of dense floating-point numbers; None if it is that."""
    if tensor.is_meta:
        return "without values"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    return None if tensor.dtype in _FLOATS else str(tensor.dtype).removeprefix("torch.")


def check_schedule(state: Mapping[str, Tensor], written: Tensor, config: Config, name: str) -> None:
    """The noise levels in the file, if it has them, must be those that are written (the two are rounded differently).

    Args:
        written: alpha-bar of each training step, by the schedule of the configuration.

    Raises:
        PriorError: they differ, or nothing but noise is left where the model could not do with that.
    """
    if config.parameterization == "eps" and not written[-1] > 0:
        raise PriorError(
            f"{name}: the noise schedule of its configuration (timesteps, beta_schedule, linear_start, linear_end) leaves no "
            "signal at the last timestep, which a model that predicts eps needs: give the YAML of this checkpoint"
        )
    if "alphas_cumprod" not in state:
        return
    form, shape = _form(state["alphas_cumprod"]), tuple(state["alphas_cumprod"].shape)
    if form is not None or shape != tuple(written.shape):
        raise PriorError(
            f"{name}: alphas_cumprod is {form or shape}, not {tuple(written.shape)} floating-point numbers, one for each "
            "timestep of its configuration: give the YAML of this checkpoint"
        )
    stored = state["alphas_cumprod"].detach().double()
    difference = float((stored / written.double() - 1).abs().max())
    if not difference < 1e-3:
        raise PriorError(
            f"{name}: alphas_cumprod is up to {difference:.1%} off the noise schedule of its configuration "
            "(beta_schedule, linear_start, linear_end): give the YAML of this checkpoint"
        )


def _listed(items: list[str], most: int = 20) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest

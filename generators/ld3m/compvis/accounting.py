"""Every tensor of a checkpoint is accounted for: used, or known and dropped; anything else is an error that names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis import autoencoder, unet
from ld3m_plugin.generators.ld3m.compvis.config import Config
from ld3m_plugin.generators.ld3m.compvis.names import Entry

#: A module and where each of its tensors comes from.
Plan = tuple[Any, list[Entry]]

EMBEDDING = "cond_stage_model.embedding.weight"
_EMA = "model_ema."
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
        PriorError: the stored number is not positive, or the configuration says there is one and there is none.
    """
    if "scale_factor" in state:
        factor = state["scale_factor"]
        if factor.numel() != 1 or not float(factor) > 0:
            raise PriorError(f"{name}: scale_factor must be one positive number, not {factor.tolist()}")
        return float(factor)
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
    """Names first, then shapes.

    Raises:
        PriorError: with the names that are missing or left over, or the shapes that are not the configuration's.
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


def check_schedule(state: Mapping[str, Tensor], written: Tensor, name: str) -> None:
    """The noise levels in the file, if it has them, must be those that are written (the two are rounded differently).

    Args:
        written: alpha-bar of each training step, by the schedule of the configuration.

    Raises:
        PriorError: they differ.
    """
    if "alphas_cumprod" not in state:
        return
    stored = state["alphas_cumprod"].double()
    if stored.shape != written.shape:
        raise PriorError(f"{name}: alphas_cumprod has {stored.numel()} steps, its configuration {written.numel()}")
    difference = float((stored / written.double() - 1).abs().max())
    if not difference < 1e-3:
        raise PriorError(
            f"{name}: alphas_cumprod is up to {difference:.1%} off the noise schedule of its configuration "
            "(beta_schedule, linear_start, linear_end): give the YAML of this checkpoint"
        )


def _listed(items: list[str], most: int = 20) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
